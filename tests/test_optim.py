import copy
from contextlib import nullcontext

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training import Naive
from torch import nn
from torch.nn.functional import cross_entropy

from cl_nvrm.noise import Perturbation
from cl_nvrm.optim import NVRM, NVRMSGD, PSGD, NVRMAdam


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def batches(count=6):
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(16, 6, generator=generator), torch.randint(3, (16,), generator=generator)) for _ in range(count)
    ]


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def train(model, optimizer, data=None, forward=None):
    for x, y in data or batches():
        optimizer.zero_grad()
        cross_entropy((forward or model)(x), y).backward()
        optimizer.step()
    return model


INNER = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "fused adam": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "groups": lambda p: torch.optim.SGD([{"params": ps, "lr": 0.1 * i} for i, ps in enumerate([[q] for q in p], 1)]),
}


@pytest.mark.parametrize("inner", INNER.values(), ids=INNER.keys())
def test_variability_zero_is_the_wrapped_optimizer_bit_for_bit(inner):
    plain, wrapped = network(), network()
    train(plain, inner(plain.parameters()))
    train(wrapped, NVRM(inner(wrapped.parameters()), 0.0))
    assert equal(weights(plain), weights(wrapped))


@pytest.mark.parametrize("inner", INNER.values(), ids=INNER.keys())
def test_the_clean_weights_take_the_step_of_the_noisy_gradient(inner):
    model, by_hand = network(), network()
    train(model, NVRM(inner(model.parameters()), 0.05, seed=3))
    optimizer, noise = inner(by_hand.parameters()), Perturbation(0.05, seed=3)
    for x, y in batches():
        optimizer.zero_grad()
        with noise.around(by_hand.parameters()):
            cross_entropy(by_hand(x), y).backward()
        optimizer.step()
    assert equal(weights(model), weights(by_hand))


@pytest.mark.parametrize("strategy_class", [None, Naive], ids=["our strategy", "Avalanche's own"])
def test_the_optimizer_door_and_the_plug_in_door_give_the_same_bits(train_toy, strategy_class):
    from cl_nvrm.plugins.nvrm import NVRMPlugin

    def adam(model):
        return torch.optim.Adam(model.parameters(), lr=0.01)

    _, through_plugin = train_toy([NVRMPlugin(0.05, seed=3)], optimizer=adam, strategy_class=strategy_class)
    _, through_optimizer = train_toy(
        [], optimizer=lambda model: NVRM(adam(model), 0.05, seed=3), strategy_class=strategy_class
    )
    assert equal(weights(through_plugin), weights(through_optimizer))


def test_a_run_that_fails_within_an_iteration_leaves_clean_weights(train_toy):
    class Fails(SupervisedPlugin):
        def before_forward(self, strategy, **kwargs):
            kept.append((strategy, weights(strategy.model)))

        def before_backward(self, strategy, **kwargs):
            raise KeyError

    kept = []
    with pytest.raises(KeyError):
        train_toy([Fails()], optimizer=lambda model: NVRM(torch.optim.SGD(model.parameters(), lr=0.1), 0.3))
    strategy, noisy = kept[0]
    assert not strategy.optimizer.perturbation.active and not equal(weights(strategy.model), noisy)


def test_weights_are_noisy_by_hand_and_clean_whenever_asked():
    model = network()
    optimizer = NVRMAdam(model.parameters(), variability=0.5)
    for x, y in batches():
        before = weights(model)
        optimizer.zero_grad()
        assert equal(weights(model), before)
        optimizer.perturb()
        noisy = weights(model)
        assert not equal(noisy, before)
        optimizer.denoise()
        assert equal(weights(model), before)
        with optimizer.noisy():
            assert equal(weights(model), noisy)  # one ξ a step
            cross_entropy(model(x), y).backward()
        assert equal(weights(model), before)
        optimizer.step()
        assert not optimizer.perturbation.active


def test_weight_decay_acts_on_clean_weights():
    model = nn.Linear(4, 4, bias=False)
    before = model.weight.detach().clone()
    optimizer = NVRM(torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5), 10.0)
    optimizer.zero_grad()
    (0 * model(torch.ones(1, 4))).sum().backward()
    optimizer.step()
    torch.testing.assert_close(model.weight, before * (1 - 0.05))


def test_state_dict_resumes_bit_for_bit():
    first, data = network(), batches(8)
    whole = network()
    train(whole, NVRMAdam(whole.parameters(), variability=0.05, seed=1), data)
    optimizer = NVRMAdam(first.parameters(), variability=0.05, seed=1)
    train(first, optimizer, data[:4])
    second = network(seed=9)
    second.load_state_dict(first.state_dict())
    resumed = NVRMAdam(second.parameters(), variability=0.05, seed=77)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(second, resumed, data[4:])
    assert equal(weights(second), weights(whole))


def test_a_plain_optimizers_state_can_be_loaded():
    model = network()
    plain = torch.optim.Adam(model.parameters())
    train(model, plain)
    wrapped = NVRMAdam(model.parameters())
    wrapped.load_state_dict(plain.state_dict())
    assert all(int(s["step"]) == 6 for s in wrapped.state.values())


def test_it_can_be_copied():
    model = network()
    optimizer = NVRMSGD(model.parameters(), lr=0.1, variability=0.1)
    train(model, optimizer)
    model2, optimizer2 = copy.deepcopy((model, optimizer))
    assert equal(weights(train(model, optimizer)), weights(train(model2, optimizer2)))


def test_learning_rate_schedulers_drive_the_wrapped_optimizer():
    model = network()
    optimizer = NVRM(torch.optim.SGD(model.parameters(), lr=1.0), 0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1)
    train(model, optimizer)
    scheduler.step()
    assert optimizer.inner.param_groups[0]["lr"] == pytest.approx(0.1)


def test_groups_added_later_are_trained_and_perturbed():
    model, extra = network(), nn.Linear(8, 3)
    optimizer = NVRM(torch.optim.SGD(model.parameters(), lr=0.1), 0.1)
    optimizer.add_param_group({"params": extra.parameters(), "lr": 0.5})
    before = extra.bias.detach().clone()
    x, y = batches(1)[0]
    assert not torch.equal(extra(torch.zeros(1, 8))[0], before)
    (cross_entropy(model(x), y) + extra(torch.zeros(1, 8)).sum()).backward()
    optimizer.step()
    torch.testing.assert_close(extra.bias.detach(), before - 0.5)


def test_a_gradient_scaler_works_and_a_skipped_step_leaves_clean_weights():
    model = network()
    optimizer = NVRMSGD(model.parameters(), lr=0.1, variability=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for i, (x, y) in enumerate(batches()):
        before = weights(model)
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y) * (float("inf") if i == 2 else 1.0)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if i == 2:
            assert equal(weights(model), before)
        else:
            assert not equal(weights(model), before) and not optimizer.perturbation.active


def test_a_line_search_sees_one_noise_within_a_step_and_another_in_the_next():
    model = network()
    x, y = batches(1)[0]
    optimizer = NVRM(torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3), 0.05, seed=2)
    offsets = []

    def closure():
        optimizer.zero_grad()
        clean = [kept for _, kept in optimizer.perturbation._swapped]
        noisy = [p.detach() for p in optimizer.weights]
        offsets[-1].append(torch.cat([(p - c).flatten() for p, c in zip(noisy, clean, strict=True)]))
        loss = cross_entropy(model(x), y)
        loss.backward()
        return loss

    for _ in range(2):
        offsets.append([])
        optimizer.step(closure)
    assert len(offsets[0]) > 1
    for later in offsets[0][1:]:
        torch.testing.assert_close(later, offsets[0][0], rtol=0, atol=1e-6)
    assert float((offsets[1][0] - offsets[0][0]).abs().max()) > 0.01


def test_compiled_models_see_the_noise():
    model, reference = network(), network()
    compiled = torch.compile(model, backend="aot_eager")
    train(model, NVRM(torch.optim.SGD(model.parameters(), lr=0.1), 0.05, seed=4), forward=compiled)
    train(reference, NVRM(torch.optim.SGD(reference.parameters(), lr=0.1), 0.05, seed=4))
    for p, q in zip(weights(model), weights(reference), strict=True):
        torch.testing.assert_close(p, q)


def test_gradients_that_are_cleared_elsewhere_are_noisy_all_the_same():
    model, reference = network(), network()
    optimizer = NVRMSGD(model.parameters(), lr=0.1, variability=0.1)
    for x, y in batches():
        model.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    train(reference, NVRMSGD(reference.parameters(), lr=0.1, variability=0.1))
    assert equal(weights(model), weights(reference))


def test_a_class_in_place_of_an_instance_is_refused():
    with pytest.raises(TypeError, match="instance"):
        NVRM(torch.optim.Adam)


def test_the_published_argument_names_are_accepted():
    model = network()
    train(model, NVRMSGD(model.parameters(), lr=0.1, variability=0.05, num_iters=100, momentum=0.9))
    train(model, NVRMAdam(model.parameters(), lr=1e-3, variability=0.05, num_iters=100, amsgrad=True))


def test_the_authors_update_sequence_is_reproduced():
    """The authors' algorithm 1, from its formulas, against our optimizer driven at their cadence.

    Theirs: noise is added at the end of step(), so the first gradient is clean; every num_iters steps it is taken out
    and none is added, so the first gradient of each epoch is clean, too. Ours does the same where the variability is 0
    in those steps. The differences that are left, on purpose: theirs leaves the noise in the weights between steps and
    subtracts it (equal up to rounding), and our weight decay sees clean weights (here it is off).
    """
    lr, b, num_iters, data = 0.1, 0.05, 3, batches(9)
    ours = network()
    optimizer = NVRMSGD(ours.parameters(), lr=lr, variability=b, seed=6)
    theirs = network()
    parameters = list(theirs.parameters())
    noise = Perturbation(b, seed=6)
    old = [torch.zeros_like(p) for p in parameters]
    for k, (x, y) in enumerate(data, 1):
        optimizer.perturbation.variability = 0.0 if k % num_iters == 1 else b
        cross_entropy(ours(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()

        gradients = torch.autograd.grad(cross_entropy(theirs(x), y), parameters)
        new = [torch.zeros_like(p) for p in parameters]
        if k % num_iters:
            new = [xi.clone() for _, xi in noise.draw(parameters)]
        with torch.no_grad():
            for p, g, before, after in zip(parameters, gradients, old, new, strict=True):
                p.add_(g, alpha=-lr).add_(after - before)
        old = new
        for p, q, xi in zip(weights(ours), weights(theirs), new, strict=True):
            torch.testing.assert_close(p, q - xi, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [NVRM, PSGD])
def test_on_a_quadratic_the_weights_spread_as_derived(make):
    """Loss ½hθ², SGD with step η: stationary variance ηh b²/(2-ηh) under NVRM, b²/(ηh(2-ηh)) under PSGD."""
    h, eta, b = 2.0, 0.25, 0.1
    theta = nn.Parameter(torch.zeros(50_000))
    optimizer = make(torch.optim.SGD([theta], lr=eta), b, seed=1)
    for _ in range(60):
        optimizer.zero_grad()
        with optimizer.noisy() if make is NVRM else nullcontext():
            (0.5 * h * theta.square()).sum().backward()
        optimizer.step()
    x = eta * h
    expected = x * b**2 / (2 - x) if make is NVRM else b**2 / (x * (2 - x))
    assert float(theta.detach().var()) == pytest.approx(expected, rel=0.03)


def test_psgd_leaves_frozen_and_unused_weights_alone():
    model = network()
    model[0].weight.requires_grad_(False)
    unused = nn.Parameter(torch.ones(4))
    frozen = model[0].weight.clone()
    optimizer = PSGD(torch.optim.SGD([*model.parameters(), unused], lr=0.1), 0.1)
    train(model, optimizer)
    assert torch.equal(model[0].weight, frozen) and torch.equal(unused, torch.ones(4))
