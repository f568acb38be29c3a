"""Noise that stays: perturbed SGD and Langevin dynamics as plug-ins."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cl_nvrm.errors import UserError
from cl_nvrm.noise import law
from cl_nvrm.optim import PSGD
from cl_nvrm.plugins.ewc import EWCPlugin
from cl_nvrm.plugins.nvrm import NVRMPlugin
from cl_nvrm.plugins.psgd import PSGDPlugin, SGLDPlugin
from cl_nvrm.plugins.si import SIPlugin
from cl_nvrm.training.stack import run_stack, stackable
from cl_nvrm.training.train import run_one


def bits(model):
    return [p.detach().clone() for p in model.parameters()]


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


def step(plugin, optimizer):
    """What a strategy does with a gradient, without the rest of it."""
    optimizer.step()
    plugin.after_update(SimpleNamespace(plugins=[plugin], optimizer=optimizer))


@pytest.mark.parametrize("heads", [False, True])
@pytest.mark.parametrize("setting", [{}, {"relative": True}, {"noise": law("laplace", "matched")}], ids=str)
def test_under_plain_sgd_it_is_the_optimizer_psgd_bit_for_bit(train_toy, setting, heads):
    _, plugin = train_toy([PSGDPlugin(0.01, seed=3, **setting)], optimizer=sgd, heads=heads)
    _, optimizer = train_toy([], optimizer=lambda model: PSGD(sgd(model), 0.01, seed=3, **setting), heads=heads)
    assert equal(bits(plugin), bits(optimizer))


@pytest.mark.parametrize("make", [PSGDPlugin, SGLDPlugin])
def test_without_noise_it_is_the_plain_method_bit_for_bit(train_toy, make):
    plain, zero = (bits(train_toy([EWCPlugin(10.0), *more])[1]) for more in ([], [make(0.0)]))
    noisy = bits(train_toy([EWCPlugin(10.0), make()])[1])
    assert equal(plain, zero) and not equal(plain, noisy)


def test_the_order_of_plug_ins_does_not_change_a_bit(train_toy):
    def plugins():
        return [EWCPlugin(10.0), NVRMPlugin(0.02, seed=7), PSGDPlugin(1e-3, seed=1), SGLDPlugin(1e-3), SIPlugin(1.0)]

    orders = [*itertools.permutations(range(5))][::17]
    results = []
    for order in orders:
        made = plugins()
        results.append(bits(train_toy([made[i] for i in order])[1]))
    assert all(equal(results[0], other) for other in results[1:])


def test_the_noise_of_langevin_dynamics_follows_the_learning_rate_of_each_group():
    temperature, size = 0.02, 40_000
    first, second = (nn.Parameter(torch.zeros(size)) for _ in range(2))
    optimizer = torch.optim.SGD([{"params": [first], "lr": 0.1}, {"params": [second], "lr": 0.4}])
    plugin = SGLDPlugin(temperature, seed=1)
    for change in (1.0, 0.25):
        before = bits(SimpleNamespace(parameters=lambda: [first, second]))
        for group in optimizer.param_groups:
            group["lr"] *= change
            group["params"][0].grad = torch.zeros(size)
        step(plugin, optimizer)
        for group, old in zip(optimizer.param_groups, before, strict=True):
            std = float((group["params"][0].detach() - old).std())
            assert std == pytest.approx(math.sqrt(2 * group["lr"] * temperature), rel=0.02)


@pytest.mark.parametrize("kind", ["psgd", "sgld"])
def test_on_a_quadratic_the_weights_spread_as_derived(kind):
    """Loss ½hθ², SGD with step η: variance b²/(ηh(2-ηh)); with b² = 2ηT this is T/h times 2/(2-ηh)."""
    h, eta, b, temperature = 2.0, 0.1, 0.1, 0.05
    theta = nn.Parameter(torch.zeros(50_000))
    optimizer = torch.optim.SGD([theta], lr=eta)
    plugin = PSGDPlugin(b, seed=1) if kind == "psgd" else SGLDPlugin(temperature, seed=1)
    for _ in range(60):
        theta.grad = h * theta.detach()
        step(plugin, optimizer)
    x = eta * h
    expected = b**2 / (x * (2 - x)) if kind == "psgd" else temperature / h * 2 / (2 - x)
    assert float(theta.detach().var()) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("make", [PSGDPlugin, SGLDPlugin])
def test_frozen_and_unused_weights_are_left_alone(make):
    used, unused, frozen = (nn.Parameter(torch.ones(4)) for _ in range(3))
    frozen.requires_grad_(False)
    used.grad, frozen.grad = torch.zeros(4), torch.zeros(4)
    step(make(0.1), torch.optim.SGD([used, unused, frozen], lr=0.1))
    assert not torch.equal(used, torch.ones(4))
    assert torch.equal(unused, torch.ones(4)) and torch.equal(frozen, torch.ones(4))


@pytest.mark.parametrize(
    "strategy", ["psgd:variability=0.003", "psgd:relative=true", "sgld:temperature=0.001", "ewc+psgd"]
)
def test_each_member_of_a_stack_equals_its_trial_run_alone(toy_spec, strategy):
    specs = [toy_spec(strategy, seed=seed) for seed in (0, 1, 5)]
    assert stackable(specs[0])
    for together, spec in zip(run_stack(specs), specs, strict=True):
        alone = run_one(spec)
        torch.testing.assert_close(torch.tensor(together.losses), torch.tensor(alone.losses), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.tensor(together.accuracy), torch.tensor(alone.accuracy), rtol=0, atol=0.01)


def test_a_run_that_goes_on_ends_bit_for_bit_as_one_that_was_never_stopped(toy_spec, tmp_path):
    class Stop(Exception):
        pass

    def stop(history, share):
        raise Stop

    spec, file = toy_spec("psgd+sgld"), tmp_path / "checkpoints" / "run.safetensors"
    whole = run_one(spec, threads=1)
    with pytest.raises(Stop):
        run_one(spec, threads=1, checkpoint=file, on_task=stop)
    shares = []
    resumed = run_one(spec, threads=1, checkpoint=file, on_task=lambda history, share: shares.append(share))
    assert len(shares) == 2 and resumed.provenance["weights_sha256"] == whole.provenance["weights_sha256"]


@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
@pytest.mark.parametrize(("make", "name"), [(PSGDPlugin, "variability"), (SGLDPlugin, "temperature")])
def test_senseless_values_are_refused(make, name, value):
    with pytest.raises(UserError, match=f"{name} must be a finite number of at least 0"):
        make(value)
