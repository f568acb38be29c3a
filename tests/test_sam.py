"""Sharpness-aware minimisation: two passes a step, and nothing of the first one left."""

import itertools
import math
from copy import deepcopy

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import LwFPlugin, MASPlugin, ReplayPlugin
from avalanche.training.supervised import Naive
from torch import nn
from torch.nn.functional import cross_entropy

from cl_nvrm.errors import UserError
from cl_nvrm.models.mlp import MLP
from cl_nvrm.noise import Perturbation
from cl_nvrm.plugins.ewc import EWCPlugin
from cl_nvrm.plugins.nvrm import NVRMPlugin
from cl_nvrm.plugins.psgd import PSGDPlugin
from cl_nvrm.plugins.sam import SAMPlugin
from cl_nvrm.plugins.si import SIPlugin
from cl_nvrm.training.loop import Strategy
from cl_nvrm.training.stack import stackable
from cl_nvrm.training.train import run_one

KINDS = {"sam": lambda: SAMPlugin(0.05), "asam": lambda: SAMPlugin(0.5, eta=0.01)}
each_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())


def bits(model):
    return [p.detach().clone() for p in model.parameters()]


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def network():
    torch.manual_seed(0)
    return MLP(20, 4, width=16)


def with_batch_norm():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


class Batches(SupervisedPlugin):
    """Keeps what was trained on."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def before_forward(self, strategy, **kwargs):
        self.seen.append((strategy.mb_x.clone(), strategy.mb_y.clone()))


def wrapped(strategy):
    return {"_around", "_train_exp", "training_epoch", "forward", "criterion", "backward"} & set(vars(strategy))


@pytest.mark.parametrize("noise", [0.0, 0.05])
@each_kind
def test_it_equals_a_hand_written_loop_also_under_noise(train_toy, make, noise):
    model, batches, plugin = network(), Batches(), make()
    by_hand = deepcopy(model)
    train_toy([plugin, NVRMPlugin(noise, seed=3), batches], model=model, optimizer=sgd)
    weights, xi = list(by_hand.parameters()), Perturbation(noise, seed=3)
    for x, y in batches.seen:
        clean = bits(by_hand)
        with xi.around(weights):
            gradients = torch.autograd.grad(cross_entropy(by_hand(x), y), weights)
            if plugin.eta is None:
                norm = torch.cat([g.flatten() for g in gradients]).norm()
                ascent = [plugin.rho * g / norm for g in gradients]
            else:
                sizes = [w.detach().abs() + plugin.eta if w.ndim > 1 else torch.ones_like(w) for w in weights]
                norm = torch.cat([(t * g).flatten() for t, g in zip(sizes, gradients, strict=True)]).norm()
                ascent = [plugin.rho * t**2 * g / norm for t, g in zip(sizes, gradients, strict=True)]
            with torch.no_grad():
                for w, epsilon in zip(weights, ascent, strict=True):
                    w += epsilon
            gradients = torch.autograd.grad(cross_entropy(by_hand(x), y), weights)
        with torch.no_grad():
            for w, before, g in zip(weights, clean, gradients, strict=True):
                w.copy_(before).sub_(0.1 * g)
    for p, q in zip(bits(model), bits(by_hand), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_the_ascent_has_the_length_rho_in_its_own_measure():
    named = list(network().named_parameters())
    weights = [w for _, w in named]
    for w in weights:
        w.grad = torch.randn_like(w)
    assert sum(float(e.square().sum()) for e in SAMPlugin(0.3).ascent(named)) == pytest.approx(0.09, rel=1e-5)
    adaptive = SAMPlugin(0.3, eta=0.1).ascent(named)
    sizes = [w.detach().abs() + 0.1 if w.ndim > 1 else 1.0 for w in weights]
    length = sum(float((e / t).square().sum()) for e, t in zip(adaptive, sizes, strict=True))
    assert length == pytest.approx(0.09, rel=1e-5)


def test_the_adaptive_ascent_does_not_change_when_layers_are_rescaled():
    """A ReLU network computes the same with one layer times c and the next by 1/c; ε/θ should know no difference."""
    torch.manual_seed(0)
    layers = [torch.randn(8, 5), torch.randn(3, 8)]
    x, y = torch.randn(16, 5), torch.randint(3, (16,))

    def relative(scale):
        weights = [nn.Parameter(layers[0] * scale), nn.Parameter(layers[1] / scale)]
        cross_entropy(torch.relu(x @ weights[0].T) @ weights[1].T, y).backward()
        ascent = SAMPlugin(0.5, eta=0.0).ascent(zip(("0.weight", "1.weight"), weights, strict=True))
        return [e / w.detach() for e, w in zip(ascent, weights, strict=True)]

    for one, other in zip(relative(1.0), relative(8.0), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@each_kind
def test_where_the_gradient_is_zero_there_is_nowhere_to_go(make):
    weights = [nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(3))]
    for w in weights:
        w.grad = torch.zeros_like(w)
    named = zip(("weight", "bias"), weights, strict=True)
    assert all(torch.equal(e, torch.zeros_like(w)) for e, w in zip(make().ascent(named), weights, strict=True))


def test_the_weights_of_normalisation_count_relative_to_their_size_and_biases_do_not():
    """As in the authors' code, which scales every parameter with "weight" in its name (SamsungLabs/ASAM, asam.py)."""
    named = {"norm.weight": nn.Parameter(torch.tensor([3.0])), "norm.bias": nn.Parameter(torch.tensor([2.0]))}
    for w in named.values():
        w.grad = torch.ones(1)
    gamma, bias = SAMPlugin(0.5, eta=1.0).ascent(named.items())
    norm = (4.0**2 + 1.0**2) ** 0.5
    assert float(gamma) == pytest.approx(0.5 * 4.0**2 / norm) and float(bias) == pytest.approx(0.5 / norm)


@pytest.mark.parametrize("plugin", [lambda: SAMPlugin(0.0), lambda: SAMPlugin(0.0, eta=0.01)])
def test_rho_zero_is_the_plain_method_bit_for_bit(train_toy, plugin):
    def trained(more):
        dropping = nn.Sequential(network(), nn.Dropout(0.3))
        torch.manual_seed(1)
        return bits(train_toy([EWCPlugin(10.0), NVRMPlugin(0.02), *more], model=dropping)[1])

    assert equal(trained([]), trained([plugin()]))
    assert not equal(trained([]), trained([SAMPlugin()]))


@pytest.mark.parametrize("heads", [False, True])
@each_kind
def test_the_order_of_plug_ins_does_not_change_a_bit(train_toy, make, heads):
    results = []
    for order in itertools.permutations(range(3)):
        plugins = [make(), NVRMPlugin(0.02, seed=7), EWCPlugin(10.0)]
        results.append(bits(train_toy([plugins[i] for i in order], heads=heads, tasks=3)[1]))
    assert all(equal(results[0], other) for other in results[1:])


def test_nor_does_it_among_many(train_toy):
    def plugins():
        sharp = [make() for make in KINDS.values()]
        return [*sharp, NVRMPlugin(0.02, seed=7), EWCPlugin(10.0), PSGDPlugin(1e-3), SIPlugin(1.0)]

    results = []
    for order in [*itertools.permutations(range(6))][::79]:
        made = plugins()
        results.append(bits(train_toy([made[i] for i in order])[1]))
    assert all(equal(results[0], other) for other in results[1:])


class Counting(Strategy):
    """Counts the gradients that are taken."""

    passes = 0

    def __init__(self, *, evaluator, **arguments):
        super().__init__(seed=0, **arguments)

    def backward(self):
        self.passes += 1
        super().backward()


def test_there_are_two_passes_a_step_through_the_strategys_own_backward(train_toy):
    counts = [train_toy(more, strategy_class=Counting)[0].passes for more in ([], [SAMPlugin()], [SAMPlugin(0.0)])]
    assert counts == [8, 16, 8]
    assert train_toy([make() for make in KINDS.values()], strategy_class=Counting)[0].passes == 16


def test_loss_and_output_stay_those_of_the_first_pass(train_toy):
    class Watch(SupervisedPlugin):
        checked = 0

        def before_backward(self, strategy, **kwargs):
            self.loss, self.output = strategy.loss, strategy.mb_output

        def after_training_iteration(self, strategy, **kwargs):
            assert strategy.loss is self.loss and strategy.mb_output is self.output
            self.checked += 1

    watch = Watch()
    train_toy([SAMPlugin(), NVRMPlugin(0.02), EWCPlugin(10.0), watch])
    assert watch.checked == 8


def test_penalties_are_taken_without_the_ascent(train_toy):
    pulls = []

    class Check(SupervisedPlugin):
        def after_backward(self, strategy, **kwargs):
            self.data = [p.grad.clone() for p in strategy.model.parameters()]

        def after_update(self, strategy, **kwargs):
            for (name, p), data, clean in zip(strategy.model.named_parameters(), self.data, self.clean, strict=True):
                if name in ewc.importance:
                    pulls.append(50.0 * ewc.importance[name] * (clean - ewc.anchor[name]))
                    torch.testing.assert_close(p.grad - data, pulls[-1], rtol=1e-4, atol=1e-6)

        def before_training_iteration(self, strategy, **kwargs):
            self.clean = bits(strategy.model)

    ewc = EWCPlugin(50.0)
    train_toy([SAMPlugin(0.5), ewc, Check()])
    assert max(float(pull.abs().max()) for pull in pulls) > 0.01


class Failing(Strategy):
    """Breaks in the given part of the given pass."""

    part, at = "forward", 0

    def __init__(self, *, evaluator, **arguments):
        super().__init__(seed=0, **arguments)
        self.calls = 0


def _failing(part):
    def method(self):
        if part == self.part:
            self.calls += 1
            if self.calls == self.at:
                raise MemoryError
        return getattr(super(Failing, self), part)()

    return method


for _part in ("forward", "criterion", "backward"):
    setattr(Failing, _part, _failing(_part))


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("part", ["forward", "criterion", "backward"])
@pytest.mark.parametrize("at", [5, 6], ids=["first pass", "second pass"])
def test_an_exception_in_either_pass_leaves_clean_weights(train_toy, monkeypatch, part, at, place):
    seen = {}

    class Keep(SupervisedPlugin):
        def before_training_iteration(self, strategy, **kwargs):
            seen["strategy"], seen["weights"] = strategy, bits(strategy.model)
            seen["buffers"] = [b.clone() for b in strategy.model.buffers()]

        def after_forward(self, strategy, **kwargs):
            seen["buffers"] = [b.clone() for b in strategy.model.buffers()]

    monkeypatch.setattr(Failing, "part", part)
    monkeypatch.setattr(Failing, "at", at)
    plugins = [SAMPlugin(0.5), NVRMPlugin(0.5), EWCPlugin(1.0), Keep()]
    with pytest.raises(MemoryError):
        train_toy(plugins if place == "first" else plugins[::-1], strategy_class=Failing, model=with_batch_norm())
    strategy = seen["strategy"]
    assert strategy.clock.train_iterations == 2
    assert equal(bits(strategy.model), seen["weights"]) and equal(strategy.model.buffers(), seen["buffers"])
    assert not wrapped(strategy)


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("event", ["before_training_epoch", "before_forward", "before_backward", "after_backward"])
def test_an_exception_in_another_plug_in_leaves_nothing_wrapped(train_toy, event, place):
    seen = {}

    def fail(self, strategy, **kwargs):
        seen["strategy"] = strategy
        raise KeyError(event)

    failing = type("Breaking", (SupervisedPlugin,), {event: fail})()
    plugins = [failing, SAMPlugin(), NVRMPlugin(0.02)]
    with pytest.raises(KeyError):
        train_toy(plugins if place == "first" else plugins[::-1])
    assert not {"_around", "_train_exp", "criterion", "backward"} & wrapped(seen["strategy"])


def test_a_task_that_was_announced_and_never_run_leaves_no_second_layer(train_toy):
    strategies = []

    class Once(SupervisedPlugin):
        def before_training_exp(self, strategy, **kwargs):
            if not strategies:
                strategies.append(strategy)
                strategy.again = strategy.experience
                raise KeyError

    with pytest.raises(KeyError):
        train_toy([SAMPlugin(), Once()], strategy_class=Counting)
    (strategy,) = strategies
    strategy.train(strategy.again)
    assert strategy.passes == 2 * 4 and not wrapped(strategy)


def test_early_stopping_leaves_nothing_wrapped(train_toy):
    class StopAtOnce(SupervisedPlugin):
        def before_training_epoch(self, strategy, **kwargs):
            if strategy.experience.current_experience == 0:
                strategy.stop_training()

    strategy, _ = train_toy([SAMPlugin(), NVRMPlugin(0.05), StopAtOnce()], tasks=3)
    assert not wrapped(strategy)


@each_kind
def test_running_statistics_move_once_a_step(train_toy, make):
    def trained(more):
        still = torch.optim.SGD
        _, model = train_toy(more, model=with_batch_norm(), optimizer=lambda m: still(m.parameters(), lr=0.0))
        return [b.clone() for b in model.buffers()]

    assert equal(trained([]), trained([make()]))
    assert int(trained([make()])[2]) == 8


@each_kind
def test_weights_without_a_gradient_are_untouched(make):
    used, unused, frozen = (
        nn.Linear(20, 4),
        nn.Parameter(torch.ones(5)),
        nn.Parameter(torch.ones(5), requires_grad=False),
    )
    used.register_parameter("unused", unused)
    used.register_parameter("frozen", frozen)
    seen = []

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.used = used

        def forward(self, x):
            seen.append([unused.detach().clone(), frozen.detach().clone()])
            return used(x)

    from cl_nvrm.spec import catalog

    benchmark = catalog.maker("benchmarks", "toy")(tasks=1, samples=128, seed=0)
    strategy = Strategy(
        seed=0,
        model=Watched(),
        optimizer=sgd(used),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=32,
        plugins=[make()],
    )
    strategy.train(benchmark.streams().train_stream[0])
    assert len(seen) == 8 and all(torch.equal(w, torch.ones(5)) for pair in seen for w in pair)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_works_in_avalanches_own_strategies_and_with_replay(train_toy):
    with_heads, model = train_toy([SAMPlugin()], heads=True, strategy_class=Naive)
    assert type(with_heads) is Naive
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())
    train_toy([SAMPlugin(), ReplayPlugin(50)], tasks=2)


@pytest.mark.parametrize("other", [lambda: LwFPlugin(), lambda: MASPlugin(1.0)], ids=["lwf", "mas"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_the_second_pass_would_leave_out_is_refused(train_toy, other):
    with pytest.raises(UserError, match="cannot repeat what another plug-in adds"):
        train_toy([SAMPlugin(), other()], tasks=2)
    train_toy([SAMPlugin(0.0), other()], tasks=2)


@pytest.mark.parametrize("place", ["first", "last"])
def test_clean_penalties_under_noise_are_refused_before_training(train_toy, place):
    plugins = [SAMPlugin(), NVRMPlugin(0.02, penalty_at="clean")]
    with pytest.raises(UserError, match="write nvrm:penalty_at=noisy"):
        train_toy(plugins if place == "first" else plugins[::-1])


@pytest.mark.parametrize("setting", [{"rho": -0.1}, {"rho": math.inf}, {"rho": math.nan}, {"eta": -1.0}], ids=str)
def test_senseless_values_are_refused(setting):
    with pytest.raises(UserError, match="must be a finite number of at least 0"):
        SAMPlugin(**setting)


def test_it_is_not_stacked_and_goes_on_from_a_checkpoint(toy_spec, tmp_path):
    class Stop(Exception):
        pass

    def stop(history, share):
        raise Stop

    spec, file = toy_spec("ewc+sam"), tmp_path / "checkpoints" / "run.safetensors"
    assert not stackable(spec)
    whole = run_one(spec, threads=1)
    with pytest.raises(Stop):
        run_one(spec, threads=1, checkpoint=file, on_task=stop)
    shares = []
    resumed = run_one(spec, threads=1, checkpoint=file, on_task=lambda history, share: shares.append(share))
    assert len(shares) == 2 and resumed.provenance["weights_sha256"] == whole.provenance["weights_sha256"]
