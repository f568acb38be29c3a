import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cl_nvrm.errors import UserError
from cl_nvrm.noise import Perturbation, weight_noise


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


@pytest.mark.parametrize("place", ["swapped", "copied"])
def test_weights_come_back_when_adding_the_noise_itself_fails(place):
    model = network()
    before = copies(model)
    aliases = [p.detach() for p in model.parameters()] if place == "copied" else []
    perturbation = Perturbation(0.1)
    add, calls = perturbation._stream.add_noise, []

    def half_done(*arguments):
        add(*arguments)
        calls.append(1)
        if len(calls) == 3:
            raise MemoryError

    perturbation._stream.add_noise = half_done
    with pytest.raises(MemoryError):
        perturbation.apply(model.parameters())
    assert same(model, before) and not perturbation.active
    assert same(model, aliases or before)


@pytest.fixture(params=["cpu", "elsewhere"])
def place(request, monkeypatch):
    """Run a test the way a CPU does it and the way other devices do it, here on the CPU's memory."""
    if request.param == "elsewhere":
        monkeypatch.setattr("cl_nvrm.noise.perturbation._on_cpu", lambda parameter: False)
    return request.param


@pytest.mark.parametrize("relative", [False, True])
def test_other_devices_perturb_in_place_by_the_same_law(place, relative):
    model = nn.Linear(400, 300)
    nn.init.constant_(model.weight, 2.0)
    before = copies(model)
    perturbation = Perturbation(0.1, "laplace", relative=relative, seed=5)
    with perturbation.around(model.parameters()):
        spread = float((model.weight.detach() - before[0]).std())
        seen = copies(model)
    assert spread == pytest.approx(0.1 * math.sqrt(2) * (2 if relative else 1), rel=0.02)
    assert same(model, before)
    again = Perturbation(0.1, "laplace", relative=relative, seed=5).draw(model.parameters())
    for noisy, clean, (_, xi) in zip(seen, before, again, strict=True):
        assert torch.equal(noisy, clean + xi)


@pytest.mark.parametrize("relative", [False, True])
def test_noisy_values_are_what_apply_would_make_of_the_weights_and_leave_them_alone(place, relative):
    torch.manual_seed(0)
    conv = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    values = [torch.randn(6), conv, torch.randn(5, 3).t(), torch.randn(7).bfloat16(), torch.randn(7).half()]
    weights = [*map(nn.Parameter, values), nn.Parameter(torch.ones(2), requires_grad=False)]
    weights.append(nn.Parameter(weights[0].data))  # one storage, one draw
    before, versions = [w.detach().clone() for w in weights], [w._version for w in weights]
    one, other = (Perturbation(0.1, relative=relative, seed=5) for _ in range(2))
    for _ in range(2):
        pairs = one.noisy(weights)
        assert [w._version for w in weights] == versions
        assert all(torch.equal(w, b) for w, b in zip(weights, before, strict=True))
        assert {id(w) for w, _ in pairs} == {id(w) for w in weights[:5]}
        with other.around(weights):
            for weight, value in pairs:
                assert torch.equal(value, weight) and value.stride() == weight.stride()
        versions = [w._version for w in weights]


def test_the_trials_of_a_stack_get_the_noise_of_their_own_seeds(place):
    alone = [nn.Linear(40, 30), nn.Linear(40, 30), nn.Linear(40, 30)]
    stack = [nn.Parameter(torch.stack(p)) for p in zip(*(copies(m) for m in alone), strict=True)]
    together = Perturbation(0.1, relative=True, seed=(3, 4, 5))
    for _ in range(2):
        with together.around(stack):
            noisy = [p.detach().clone() for p in stack]
    for trial, model in enumerate(alone):
        own = Perturbation(0.1, relative=True, seed=3 + trial)
        for _ in range(2):
            with own.around(model.parameters()):
                seen = copies(model)
        for one, many in zip(seen, noisy, strict=True):
            torch.testing.assert_close(many[trial], one, rtol=1e-6, atol=1e-7)


def test_a_parameter_alone_in_its_storage_is_pointed_elsewhere_and_one_with_a_view_is_not():
    model = nn.Linear(5, 5)
    view = model.weight.detach()[0]
    places = [p.data_ptr() for p in model.parameters()]
    with weight_noise(model, 0.1):
        assert model.weight.data_ptr() == places[0] and model.bias.data_ptr() != places[1]
        assert torch.equal(view, model.weight[0])  # whoever holds a view sees the noise, too
    assert [p.data_ptr() for p in model.parameters()] == places


def test_views_into_one_flat_tensor_are_perturbed_where_they_are():
    flat = torch.zeros(30)
    parts = [nn.Parameter(flat[:10]), nn.Parameter(flat[10:])]
    with Perturbation(0.1).around(parts):
        assert bool((flat != 0).all())
    assert bool((flat == 0).all())


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("when", ["noise on", "noise off"])
def test_a_backward_pass_over_weights_that_changed_since_is_an_error(shared, when):
    model = network()
    aliases = [p.detach() for p in model.parameters()] if shared else []
    perturbation = Perturbation(0.1)
    if when == "noise off":
        perturbation.apply(model.parameters())
    loss = model(torch.randn(6, 30)).sum()
    perturbation.restore() if when == "noise off" else perturbation.apply(model.parameters())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    assert aliases or not shared


def test_a_transposed_weight_gets_its_noise_and_comes_back():
    weight = nn.Parameter(torch.zeros(30, 20).t())
    with Perturbation(0.1).around([weight]):
        assert bool((weight != 0).all())
    assert bool((weight == 0).all()) and not weight.is_contiguous()


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
    assert perturbation.state_dict() == Perturbation(0.0).state_dict()


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu_the_noise_has_its_scale_and_the_weights_come_back(dtype):
    model = network(dtype).cuda()
    before = copies(model)
    with weight_noise(model, 0.05):
        assert float((model[0].weight.float() - before[0].float()).std()) == pytest.approx(0.05, rel=0.1)
    assert same(model, before)
