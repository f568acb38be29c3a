import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cl_nvrm.errors import UserError
from cl_nvrm.perturb import Perturbation, weight_noise


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(30, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 10)).to(dtype)


def copies(model):
    return [p.detach().clone() for p in model.parameters()]


def same(model, weights):
    return all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))


@settings(deadline=None, max_examples=20)
@given(
    noise=st.sampled_from(["gaussian", "laplace", "uniform"]),
    variability=st.floats(1e-6, 1e3),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    relative=st.booleans(),
)
def test_weights_come_back_bit_for_bit(noise, variability, dtype, relative):
    model = network(dtype)
    before = copies(model)
    perturbation = Perturbation(variability, noise, relative=relative)
    for _ in range(3):
        perturbation.apply(model.parameters())
        perturbation.restore()
    assert same(model, before)


def test_subtracting_the_noise_again_would_not_bring_the_weights_back():
    w = torch.randn(10_000)
    e = 0.05 * torch.randn(10_000)
    assert not torch.equal((w + e) - e, w)


def test_weights_come_back_after_an_exception():
    model = network()
    before = copies(model)
    with pytest.raises(KeyError), Perturbation(0.1).around(model.parameters()):
        assert not same(model, before)
        raise KeyError
    assert same(model, before)


def test_weights_come_back_when_adding_the_noise_itself_fails(monkeypatch):
    model = network()
    before = copies(model)
    perturbation = Perturbation(0.1)

    def half_done(tensors, noise):
        tensors[0].add_(noise[0])
        raise MemoryError

    monkeypatch.setattr(torch, "_foreach_add_", half_done)
    with pytest.raises(MemoryError):
        perturbation.apply(model.parameters())
    assert same(model, before) and not perturbation.active


def test_the_noise_has_the_asked_scale_on_every_tensor():
    model = nn.Linear(400, 300)
    before = copies(model)
    with weight_noise(model, 0.05, "laplace"):
        noise = [p.detach() - w for p, w in zip(model.parameters(), before, strict=True)]
    assert noise[0].std() == pytest.approx(0.05 * math.sqrt(2), rel=0.02)
    assert noise[1].std() == pytest.approx(0.05 * math.sqrt(2), rel=0.2)
    assert same(model, before)


def test_relative_noise_scales_with_each_tensors_root_mean_square():
    model = nn.Linear(400, 300, bias=False)
    nn.init.constant_(model.weight, 7.0)
    with weight_noise(model, 0.1, relative=True):
        assert float((model.weight.detach() - 7).std()) == pytest.approx(0.7, rel=0.02)


def test_frozen_parameters_stay_as_they_are():
    model = network()
    model[0].weight.requires_grad_(False)
    frozen = model[0].weight.clone()
    with weight_noise(model, 0.1):
        assert torch.equal(model[0].weight, frozen)
        assert bool((model[0].bias != 0).any())


def test_a_parameter_that_two_modules_share_gets_one_draw():
    a, b = nn.Linear(5, 5, bias=False), nn.Linear(5, 5, bias=False)
    b.weight = a.weight
    c = nn.Linear(5, 5, bias=False)
    c.weight = nn.Parameter(a.weight.data)  # another Parameter on the same storage
    before = a.weight.detach().clone()
    single = nn.Linear(5, 5, bias=False)
    single.weight.data.copy_(before)
    perturbation = Perturbation(0.1, seed=3)
    perturbation.apply([a.weight, b.weight, c.weight])
    with Perturbation(0.1, seed=3).around([single.weight]):
        assert torch.equal(a.weight, single.weight)
    perturbation.restore()
    assert torch.equal(a.weight, before)


def test_heads_that_appear_later_are_perturbed_and_restored():
    heads = nn.ModuleList([nn.Linear(5, 2)])
    perturbation = Perturbation(0.1)
    with perturbation.around(heads.parameters()):
        pass
    heads.append(nn.Linear(5, 2))
    before = copies(heads)
    with perturbation.around(heads.parameters()):
        assert not torch.equal(heads[1].weight, before[2])
    assert same(heads, before)


def test_parameters_without_gradient_are_restored_like_the_others():
    model = network()
    before = copies(model)
    assert all(p.grad is None for p in model.parameters())
    with weight_noise(model, 0.1):
        pass
    assert same(model, before)


def test_buffers_are_never_touched():
    model = network()
    with weight_noise(model, 0.1):
        assert torch.equal(model[1].running_mean, torch.zeros(40))


def test_variability_zero_touches_nothing_and_draws_nothing():
    model = network()
    before = copies(model)
    perturbation = Perturbation(0.0)
    with perturbation.around(model.parameters()):
        assert same(model, before) and perturbation.active
    assert perturbation.state_dict() == {"generators": {}}


def test_noise_neither_reads_nor_moves_the_global_random_state():
    model = network()
    torch.manual_seed(1)
    with weight_noise(model, 0.1, seed=5):
        first = copies(model)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    with weight_noise(model, 0.1, seed=5):
        assert same(model, first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_every_apply_draws_afresh_and_a_saved_state_continues_the_sequence():
    model = network()
    perturbation = Perturbation(0.1, seed=1)
    seen = []
    for _ in range(2):
        state = perturbation.state_dict()
        with perturbation.around(model.parameters()):
            seen.append(copies(model))
    assert not torch.equal(seen[0][0], seen[1][0])
    other = Perturbation(0.1, seed=99)
    other.load_state_dict(state)
    with other.around(model.parameters()):
        assert same(model, seen[1])


def test_mixed_types_on_one_device_do_not_share_noise():
    a, b = nn.Parameter(torch.zeros(1000)), nn.Parameter(torch.zeros(1000, dtype=torch.bfloat16))
    with Perturbation(1.0).around([a, b]):
        assert abs(float(torch.corrcoef(torch.stack([a.detach(), b.detach().float()]))[0, 1])) < 0.2


def test_applying_twice_is_an_error_that_leaves_the_first_noise_restorable():
    model = network()
    before = copies(model)
    perturbation = Perturbation(0.1)
    perturbation.apply(model.parameters())
    with pytest.raises(RuntimeError, match=r"restore\(\)"):
        perturbation.apply(model.parameters())
    perturbation.restore()
    assert same(model, before)


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_a_scale_that_is_none_is_refused(value):
    with pytest.raises(UserError, match="at least 0"):
        Perturbation(value)
