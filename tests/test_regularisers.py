"""l1 and Jacobian regularisation, and terms of the loss in any order of plug-ins."""

import itertools
import math
from copy import deepcopy

import pytest
import torch
from avalanche.core import SupervisedPlugin
from torch import nn
from torch.nn.functional import cross_entropy

from cl_nvrm.errors import UserError
from cl_nvrm.models.mlp import MLP
from cl_nvrm.noise import Perturbation
from cl_nvrm.plugins.distillation import FeatureDistillationPlugin, LwFPlugin
from cl_nvrm.plugins.ewc import EWCPlugin
from cl_nvrm.plugins.jacobian import JacobianPlugin
from cl_nvrm.plugins.l1 import L1Plugin
from cl_nvrm.plugins.loss_terms import LossTerm
from cl_nvrm.plugins.nsr import NSRPlugin
from cl_nvrm.plugins.nvrm import NVRMPlugin
from cl_nvrm.plugins.sam import SAMPlugin
from cl_nvrm.plugins.si import SIPlugin
from cl_nvrm.training.stack import run_stack, stackable
from cl_nvrm.training.train import run_one


def bits(model):
    return [p.detach().clone() for p in model.parameters()]


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.05)


def network():
    torch.manual_seed(0)
    return MLP(20, 4, width=16)


class Batches(SupervisedPlugin):
    """Keeps what was trained on, and what was added to the loss."""

    def __init__(self):
        super().__init__()
        self.seen, self.terms = [], []

    def before_forward(self, strategy, **kwargs):
        self.seen.append((strategy.mb_x.detach().clone(), strategy.mb_y.clone()))

    def after_backward(self, strategy, **kwargs):
        self.terms.append(float(strategy.loss.detach() - cross_entropy(strategy.mb_output, strategy.mb_y).detach()))


class Noisy(LossTerm):
    """A term of many small parts, whose gradient meets others at the logits."""

    def __init__(self, name, factor):
        super().__init__()
        self.name, self.factor = name, factor

    def term(self, strategy):
        return (self.factor * strategy.mb_output).sin().mean()


def test_terms_are_computed_in_the_order_of_their_names_once_each_and_see_those_before(train_toy):
    calls = []

    class Look(Noisy):
        def term(self, strategy):
            calls.append((self.name, float(strategy.loss.detach())))
            return torch.ones(()) if self.name < "c" else None

    for order in itertools.permutations("abc"):
        calls.clear()
        train_toy([Look(name, 1.0) for name in order], tasks=1)
        assert [name for name, _ in calls] == ["a", "b", "c"] * 4
        (_, first), (_, second), (_, third) = calls[:3]
        assert (second - first, third - second) == pytest.approx((1.0, 1.0), rel=1e-5)


@pytest.mark.parametrize("heads", [False, True])
def test_the_order_of_plug_ins_does_not_change_a_bit(train_toy, heads):
    def plugins():
        terms = [NSRPlugin(1.0), JacobianPlugin(0.05, seed=1), Noisy("one", 3.0), Noisy("two", 0.7)]
        layer = "network.trunk.2" if heads else "trunk.2"
        others = [NVRMPlugin(0.02, seed=7), EWCPlugin(10.0), SIPlugin(1.0), L1Plugin(1e-3)]
        return [*terms, NSRPlugin(0.3, layer=layer), *others]

    results = []
    for order in [*itertools.permutations(range(9))][::51341]:
        made = plugins()
        results.append(bits(train_toy([made[i] for i in order], heads=heads)[1]))
    assert len(results) == 8 and all(equal(results[0], other) for other in results[1:])


def test_sums_in_the_order_of_plug_ins_would_differ(train_toy):
    """What the order of names is good for."""

    class Naively(Noisy):
        before_backward = None

        def __init__(self, name, factor):
            super().__init__(name, factor)
            self.before_backward = self._add

        def _add(self, strategy, **kwargs):
            strategy.loss = strategy.loss + self.term(strategy)

    def trained(kind, order):
        return bits(train_toy([kind(str(i), 0.3 + i) for i in order])[1])

    orders = [*itertools.permutations(range(3))]
    naive, sorted_ = ([trained(kind, order) for order in orders] for kind in (Naively, Noisy))
    assert not all(equal(naive[0], other) for other in naive[1:])
    assert all(equal(sorted_[0], other) for other in sorted_[1:])


class Reading(SupervisedPlugin):
    """Looks at what is in p.grad right after the backward pass."""

    def __init__(self, reads):
        super().__init__()
        self.reads_data_gradient, self.seen, self.losses = reads, [], []

    def after_backward(self, strategy, **kwargs):
        data = torch.autograd.grad(
            cross_entropy(strategy.model(strategy.mb_x), strategy.mb_y), list(strategy.model.parameters())
        )
        self.seen.append(
            all(
                torch.allclose(p.grad, g, rtol=1e-4, atol=1e-6)
                for p, g in zip(strategy.model.parameters(), data, strict=True)
            )
        )
        self.losses.append(float(strategy.loss.detach()))


@pytest.mark.parametrize("noise", ["noisy", "clean", None])
def test_whoever_reads_the_gradient_of_the_data_changes_weights_by_rounding_alone(train_toy, noise):
    def trained(*readers, backwards=False):
        terms = [NSRPlugin(1.0, layer="trunk.2"), JacobianPlugin(0.05), LwFPlugin(2.0), FeatureDistillationPlugin(0.1)]
        noises = [NVRMPlugin(0.05, seed=7, penalty_at=noise)] if noise else []
        plugins = [*readers, *terms, *noises, EWCPlugin(10.0)]
        return bits(train_toy(plugins[::-1] if backwards else plugins, model=network(), optimizer=sgd)[1])

    apart, joined = Reading(True), Reading(False)
    one, other = trained(apart), trained(joined)
    for p, q in zip(one, other, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)
    assert equal(one, trained(Reading(True), backwards=True)) and equal(other, trained())
    assert apart.losses == pytest.approx(joined.losses, rel=1e-3)
    if noise is None:
        assert all(apart.seen) and not any(joined.seen)


def test_with_a_reader_the_loss_still_has_the_terms_and_they_see_those_before(train_toy):
    seen = []

    class Look(Noisy):
        def term(self, strategy):
            seen.append(strategy.loss)
            return super().term(strategy) * strategy.loss  # the gradient by way of the loss is the term's, too

    def trained(*readers):
        return bits(train_toy([*readers, Look("b", 3.0), Look("a", 0.7)], tasks=1, model=network(), optimizer=sgd)[1])

    for p, q in zip(trained(Reading(True)), trained(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)
    ones, others = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert [float(loss.detach()) for loss in ones] == pytest.approx([float(loss.detach()) for loss in others], rel=1e-3)


@pytest.mark.parametrize("make", [JacobianPlugin, NSRPlugin])
@pytest.mark.parametrize("reader", [False, True])
def test_sam_names_what_it_refuses_before_training(train_toy, make, reader):
    class Never(SupervisedPlugin):
        def before_forward(self, strategy, **kwargs):
            pytest.fail("training has begun")

    others = [SIPlugin()] if reader else []
    with pytest.raises(UserError, match=f"another plug-in adds to the loss, here {make().name};"):
        train_toy([make(1.0), SAMPlugin(), Never(), *others])
    train_toy([make(0.0), SAMPlugin(), *others])
    train_toy([make(1.0), SAMPlugin(0.0), *others])


def test_sam_refuses_a_term_that_becomes_active_while_others_read_the_gradient(train_toy):
    plugin = JacobianPlugin(0.0)

    class Later(SupervisedPlugin):
        def after_training_exp(self, strategy, **kwargs):
            plugin.lambda_ = 1.0

    with pytest.raises(UserError, match="cannot repeat"):
        train_toy([SAMPlugin(), plugin, Later(), SIPlugin()])


@pytest.mark.parametrize("make", [JacobianPlugin, NSRPlugin])
def test_sam_refuses_terms_and_takes_the_norm_of_weights(train_toy, make):
    with pytest.raises(UserError, match="cannot repeat"):
        train_toy([SAMPlugin(), make(1.0)])
    for plugins in ([SAMPlugin(), L1Plugin(1e-3)], [L1Plugin(1e-3), SAMPlugin()]):
        train_toy(plugins)


@pytest.mark.parametrize("make", [JacobianPlugin, L1Plugin])
def test_lambda_zero_is_the_plain_method_bit_for_bit(train_toy, make):
    plain, same, other = (bits(train_toy(p, model=network())[1]) for p in ([], [make(0.0)], [make(0.01)]))
    assert equal(plain, same) and not equal(plain, other)


@pytest.mark.parametrize("make", [JacobianPlugin, L1Plugin])
@pytest.mark.parametrize("strength", [-1.0, math.inf, math.nan])
def test_a_strength_that_is_none_is_refused(make, strength):
    with pytest.raises(UserError, match="lambda must be"):
        make(strength)


def test_a_negative_number_of_directions_is_refused():
    with pytest.raises(UserError, match="projections"):
        JacobianPlugin(projections=-1)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_l1_equals_a_hand_written_loop_also_under_noise(train_toy, noise):
    model, batches = network(), Batches()
    by_hand, xi = deepcopy(model), Perturbation(noise, seed=3)
    train_toy([L1Plugin(0.01), NVRMPlugin(noise, seed=3), batches], model=model, optimizer=sgd)
    weights = list(by_hand.parameters())
    for (x, y), term in zip(batches.seen, batches.terms, strict=True):
        with xi.around(weights):
            penalty = 0.01 * sum(w.abs().sum() for w in weights)
            gradients = torch.autograd.grad(cross_entropy(by_hand(x), y) + penalty, weights)
        assert term == pytest.approx(float(penalty.detach()), rel=1e-4)
        with torch.no_grad():
            for w, g in zip(weights, gradients, strict=True):
                w.sub_(0.05 * g)
    for p, q in zip(bits(model), bits(by_hand), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


def test_a_weight_that_is_zero_and_matters_nowhere_stays_zero(train_toy):
    model = network()
    with torch.no_grad():
        model.trunk[1].weight[3] = 0.0
        model.trunk[1].bias[3] = -1.0  # a ReLU that never opens
    train_toy([L1Plugin(0.01)], model=model, optimizer=sgd)
    assert torch.equal(model.trunk[1].weight[3], torch.zeros(20))
    assert float(model.trunk[1].bias[3].detach()) == pytest.approx(-1.0 + 8 * 0.05 * 0.01)


def test_l1_keeps_the_gradient_of_the_data_to_itself(train_toy):
    """SI reads p.grad right after the backward pass."""

    class Check(SupervisedPlugin):
        checked = 0

        def after_backward(self, strategy, **kwargs):
            loss = cross_entropy(strategy.mb_output, strategy.mb_y)
            assert float(strategy.loss.detach()) > float(loss.detach())
            model = deepcopy(strategy.model)
            model.zero_grad()
            cross_entropy(model(strategy.mb_x), strategy.mb_y).backward()
            for p, q in zip(strategy.model.parameters(), model.parameters(), strict=True):
                torch.testing.assert_close(p.grad, q.grad, rtol=1e-5, atol=1e-7)
            self.checked += 1

    check = Check()
    train_toy([L1Plugin(0.1), check], model=network())
    assert check.checked == 8


def test_frozen_weights_are_no_part_of_l1(train_toy):
    model, batches = network(), Batches()
    model.trunk[1].requires_grad_(False)
    free = sum(float(p.detach().abs().sum()) for p in model.parameters() if p.requires_grad)
    before = model.trunk[1].weight.clone()
    train_toy([L1Plugin(0.01), batches], model=model)
    assert batches.terms[0] == pytest.approx(0.01 * free, rel=1e-4)
    assert torch.equal(model.trunk[1].weight, before)


def test_l1_stacks(toy_spec):
    specs = [toy_spec("l1:lambda=0.01+nvrm", seed=seed) for seed in (0, 1)]
    assert stackable(specs[0]) and not stackable(toy_spec("nsr"))
    for together, spec in zip(run_stack(specs), specs, strict=True):
        losses = torch.tensor(run_one(spec).losses)
        torch.testing.assert_close(torch.tensor(together.losses), losses, rtol=1e-4, atol=1e-5)


def norm(model, x):
    """The mean of ‖J‖²_F over samples, from autograd's own Jacobian."""
    jacobian = torch.func.vmap(torch.func.jacrev(lambda one: model(one[None])[0]))(x)
    return jacobian.square().sum() / len(x)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_exact_norm_equals_a_hand_written_loop_also_under_noise(train_toy, noise):
    torch.manual_seed(0)
    model, batches = nn.Sequential(nn.Linear(20, 8), nn.Tanh(), nn.Linear(8, 4)), Batches()
    by_hand, xi = deepcopy(model), Perturbation(noise, seed=3)
    train_toy([JacobianPlugin(0.1, projections=0), NVRMPlugin(noise, seed=3), batches], model=model, optimizer=sgd)
    weights = list(by_hand.parameters())
    for (x, y), term in zip(batches.seen, batches.terms, strict=True):
        with xi.around(weights):
            penalty = 0.05 * norm(by_hand, x)
            gradients = torch.autograd.grad(cross_entropy(by_hand(x), y) + penalty, weights)
        assert term == pytest.approx(float(penalty.detach()), rel=1e-3)
        with torch.no_grad():
            for w, g in zip(weights, gradients, strict=True):
                w.sub_(0.05 * g)
    for p, q in zip(bits(model), bits(by_hand), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


class Now:
    """A strategy after one forward pass on ``x``."""

    mb_x = property(lambda self: self.mbatch[0])

    def __init__(self, plugin, model, x):
        self.mbatch = [x]
        plugin.before_forward(self)
        self.mb_output = model(self.mb_x)


def estimates(projections, draws):
    """Estimates of ‖J‖²_F for one batch, each with a seed of its own, and the exact norm."""
    model, x = network(), torch.randn(8, 20, generator=torch.Generator().manual_seed(0))
    plugins = [JacobianPlugin(2.0, projections=projections, seed=seed) for seed in range(draws)]
    values = [float(plugin.term(Now(plugin, model, x)).detach()) for plugin in plugins]
    return torch.tensor(values), float(norm(model, x).detach())


def test_random_directions_estimate_the_norm_without_bias():
    found, exact = estimates(1, 300)
    error = float(found.std()) / math.sqrt(len(found))
    assert error < 0.03 * exact
    assert float(found.mean()) == pytest.approx(exact, abs=4 * error)


def test_more_directions_scatter_less():
    assert 2.5 < float(estimates(1, 100)[0].std() / estimates(16, 100)[0].std()) < 6.5  # 4, up to chance


def test_training_lowers_the_norm(train_toy):
    norms = []
    for strength in (0.0, 1.0, 10.0):
        batches = Batches()
        _, model = train_toy([JacobianPlugin(strength, seed=1), batches], tasks=1, epochs=5, model=network())
        norms.append(float(norm(model, torch.cat([x for x, _ in batches.seen[:4]])).detach()))
    assert norms[0] > norms[1] > 4 * norms[2]


def test_the_inputs_are_plain_before_and_after(train_toy):
    class Check(SupervisedPlugin):
        def before_training_iteration(self, strategy, **kwargs):
            assert not strategy.mb_x.requires_grad

        after_training_iteration = before_training_iteration

    train_toy([JacobianPlugin(0.1), Check()])


def test_the_gradient_of_compiled_code_is_not_differentiated(train_toy):
    model = network()
    model.compile()  # nothing is compiled before the first pass
    with pytest.raises(UserError, match="leave out --compile"):
        train_toy([JacobianPlugin(0.1)], model=model)
