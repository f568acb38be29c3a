"""Label-noise SGD as a plug-in: fresh noise on the labels of the loss, and on nothing else."""

import itertools
import math
from copy import deepcopy

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import ReplayPlugin
from avalanche.training.supervised import Naive
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from cl_nvrm.analysis.implicit_regulariser import implicit_regulariser
from cl_nvrm.errors import UserError
from cl_nvrm.models.mlp import MLP
from cl_nvrm.plugins.ewc import EWCPlugin
from cl_nvrm.plugins.label_noise_sgd import LabelNoisePlugin, Rademacher
from cl_nvrm.plugins.nvrm import NVRMPlugin
from cl_nvrm.plugins.psgd import PSGDPlugin
from cl_nvrm.plugins.rehearsal import AGEMPlugin
from cl_nvrm.plugins.sam import SAMPlugin
from cl_nvrm.plugins.si import SIPlugin
from cl_nvrm.spec import catalog, grammar
from cl_nvrm.training.loop import Strategy
from cl_nvrm.training.stack import run_stack, stackable
from cl_nvrm.training.train import run_one

FORMS = {
    "cross-entropy": lambda **more: LabelNoisePlugin(rate=0.3, **more),
    "squared": lambda **more: LabelNoisePlugin("squared", sigma=0.5, **more),
}
each_form = pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)


def bits(model):
    return [p.detach().clone() for p in model.parameters()]


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def network():
    torch.manual_seed(0)
    return MLP(20, 4, width=16)


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


class Keeping(LabelNoisePlugin):
    """Keeps the noise of each iteration."""

    def after_backward(self, strategy, **kwargs):
        self.kept.append((strategy.mb_x.clone(), strategy.mb_y.clone(), self._noise.clone()))
        super().after_backward(strategy, **kwargs)


def keeping(*arguments, **more):
    plugin = Keeping(*arguments, diagnose=0, **more)
    plugin.kept = []
    return plugin


@pytest.mark.parametrize("loss", FORMS)
def test_it_equals_a_hand_written_loop(train_toy, loss):
    model, plugin = network(), keeping(loss, rate=0.3)
    by_hand = deepcopy(model)
    train_toy([plugin], model=model, optimizer=sgd)
    optimizer = sgd(by_hand)
    for x, y, noise in plugin.kept:
        optimizer.zero_grad()
        if loss == "squared":
            value = sum(
                0.5 * (by_hand(a[None])[0] - one_hot(b, 4) - e).square().sum()
                for a, b, e in zip(x, y, noise, strict=True)
            ) / len(x)
        else:
            value = cross_entropy(by_hand(x), noise)
        value.backward()
        optimizer.step()
    assert len(plugin.kept) == 8
    for p, q in zip(bits(model), bits(by_hand), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_every_iteration_replaces_labels_anew_at_the_rate_by_all_other_classes_alike(train_toy):
    plugin = keeping(rate=0.3, seed=5)
    train_toy([plugin], epochs=40)
    true, given = (torch.stack([row[k] for row in plugin.kept]) for k in (1, 2))
    wrong = given != true
    count = true.numel()
    assert float(wrong.double().mean()) == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / count))
    counts = torch.bincount(((given - true) % 4)[wrong], minlength=4)
    assert counts[0] == 0 and float((counts[1:] - wrong.sum() / 3).abs().max()) < 4 * math.sqrt(
        float(wrong.sum()) * 2 / 9
    )
    together = (wrong[1:] & wrong[:-1]).double().mean()  # what was replaced last says nothing about what is next
    assert float(together) == pytest.approx(0.09, abs=4 * math.sqrt(0.09 * 0.91 / count))


@pytest.mark.parametrize("law", ["gaussian", "rademacher"])
def test_the_noise_on_targets_is_fresh_and_has_its_law(train_toy, law):
    plugin = keeping("squared", sigma=0.4, law=law)
    train_toy([plugin], epochs=10)
    noise = torch.stack([row[2] for row in plugin.kept]).double() / 0.4
    n = noise.numel()
    assert noise.shape[1:] == (32, 4) and abs(float(noise.mean())) < 4 / math.sqrt(n)
    assert float(noise.square().mean()) == pytest.approx(1, abs=4 * math.sqrt(2 / n))
    assert float(noise.pow(4).mean()) == pytest.approx(3 if law == "gaussian" else 1, abs=4 * math.sqrt(96 / n))
    assert abs(float((noise[1:] * noise[:-1]).mean())) < 4 / math.sqrt(n)
    assert not torch.equal(Rademacher().draw_(torch.empty(9), torch.Generator().manual_seed(0)), torch.ones(9))


def test_rate_zero_is_the_plain_method_bit_for_bit_and_sigma_zero_the_squared_loss(train_toy):
    plain = bits(train_toy([NVRMPlugin(0.02)])[1])
    assert equal(plain, bits(train_toy([NVRMPlugin(0.02), LabelNoisePlugin(rate=0.0)])[1]))
    assert not equal(plain, bits(train_toy([NVRMPlugin(0.02), LabelNoisePlugin()])[1]))

    class Squared(nn.Module):
        def forward(self, outputs, labels):
            return 0.5 * (outputs - one_hot(labels, 4)).square().sum(1).mean()

    class OnSquared(Strategy):
        def __init__(self, *, evaluator, **arguments):
            super().__init__(seed=0, **(arguments | {"criterion": Squared()}))

    squared, noisy = (bits(train_toy([LabelNoisePlugin("squared", sigma=s)])[1]) for s in (0.0, 0.5))
    expected = bits(train_toy([], strategy_class=OnSquared)[1])
    for p, q in zip(squared, expected, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    assert not equal(squared, noisy)


@each_form
@pytest.mark.parametrize("heads", [False, True])
def test_the_order_of_plug_ins_does_not_change_a_bit(train_toy, make, heads):
    def plugins():
        return [make(), SAMPlugin(), NVRMPlugin(0.02, seed=7), EWCPlugin(10.0), PSGDPlugin(1e-3), SIPlugin(1.0)]

    results = []
    for order in [*itertools.permutations(range(6))][::149]:
        made = plugins()
        results.append(bits(train_toy([made[i] for i in order], heads=heads)[1]))
    assert len(results) == 5 and all(equal(results[0], other) for other in results[1:])


@each_form
@pytest.mark.parametrize("place", ["first", "last"])
def test_both_passes_of_sam_see_the_same_noise(train_toy, make, place):
    """At a step of nothing, the second pass must give the gradient of the first, bit for bit."""
    passes = []

    class Watching(Strategy):
        def __init__(self, *, evaluator, **arguments):
            super().__init__(seed=0, **arguments)

        def backward(self):
            super().backward()
            passes.append([p.grad.clone() for p in self.model.parameters()])

    plugins = [make(), SAMPlugin(1e-30)]
    train_toy(plugins if place == "first" else plugins[::-1], strategy_class=Watching, tasks=1)
    assert len(passes) == 8
    for first, second in zip(passes[::2], passes[1::2], strict=True):
        assert equal(first, second)


@each_form
def test_nobody_else_sees_noise_on_labels_and_what_is_evaluated_has_none(train_toy, make):
    seen = {}

    class Look(SupervisedPlugin):
        def look(self, strategy, **kwargs):
            seen.setdefault("labels", []).append(strategy.mb_y.clone())

        before_forward = before_backward = after_backward = after_update = look

        def after_training_iteration(self, strategy, **kwargs):
            outputs, labels = strategy.mb_output, strategy.mb_y
            half = 0.5 * (outputs - one_hot(labels, 4)).square().sum(1).mean()
            plain = half if plugin.loss == "squared" else cross_entropy(outputs, labels)
            assert torch.equal(strategy.criterion(), plain)

    plugin = make()
    strategy, _ = train_toy([plugin, Look()], tasks=1)
    for k in range(0, len(seen["labels"]), 4):
        assert all(torch.equal(seen["labels"][k], labels) for labels in seen["labels"][k : k + 4])
    assert type(strategy._criterion) is nn.CrossEntropyLoss


@pytest.mark.parametrize("order", [*itertools.permutations(range(4))][::3], ids=str)
@pytest.mark.parametrize("event", ["before_training_exp", "before_forward", "before_backward", "after_training_epoch"])
def test_an_exception_leaves_nothing_wrapped(train_toy, order, event):
    seen = {}

    class Breaking(SupervisedPlugin):
        pass

    def fail(self, strategy, **kwargs):
        seen["strategy"] = strategy
        raise KeyError(event)

    setattr(Breaking, event, fail)
    plugins = [LabelNoisePlugin(), SAMPlugin(), NVRMPlugin(0.02), Breaking()]
    with pytest.raises(KeyError):
        train_toy([plugins[i] for i in order])
    strategy = seen["strategy"]
    assert type(strategy._criterion) is nn.CrossEntropyLoss
    if event != "before_training_exp":  # announced and never run: what is left then is dropped at the next task
        left = {"_around", "_train_exp", "training_epoch", "criterion", "backward", "forward"} & set(vars(strategy))
        assert not left
    assert not plugins[0]._on and plugins[0]._noise is None


@each_form
def test_a_task_that_was_announced_and_never_run_leaves_no_second_layer(train_toy, make):
    strategies = []

    class Once(SupervisedPlugin):
        def before_training_exp(self, strategy, **kwargs):
            if not strategies:
                strategies.append(strategy)
                strategy.again = strategy.experience
                raise KeyError

    with pytest.raises(KeyError):
        train_toy([make(), Once()])
    (strategy,) = strategies
    strategy.train(strategy.again)
    assert type(strategy._criterion) is nn.CrossEntropyLoss
    assert not {"_around", "_train_exp"} & set(vars(strategy))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_works_in_avalanches_own_strategies_and_with_replay(train_toy):
    strategy, model = train_toy([LabelNoisePlugin("squared")], heads=True, strategy_class=Naive)
    assert type(strategy) is Naive and all(bool(torch.isfinite(p).all()) for p in model.parameters())
    train_toy([LabelNoisePlugin(), ReplayPlugin(50)], tasks=2)


def test_a_strategy_with_a_loss_of_its_own_is_told_so(train_toy):
    class Own(Strategy):
        def __init__(self, *, evaluator, **arguments):
            super().__init__(seed=0, **arguments)

        def criterion(self):
            return self._criterion(self.mb_output[:4], self.mb_y[:4])

    with pytest.raises(RuntimeError, match="no label noise in it"):
        train_toy([LabelNoisePlugin()], strategy_class=Own)


@pytest.mark.parametrize("heads", [False, True])
def test_the_diagnostic_is_the_regulariser_over_the_samples_asked_for(train_toy, heads):
    everything, some, none = (LabelNoisePlugin(diagnose=n) for n in (128, 50, 0))
    _, model = train_toy([everything], tasks=1, heads=heads)
    benchmark = catalog.maker("benchmarks", "toy")(tasks=1, heads=heads, samples=128, seed=0)
    expected = implicit_regulariser(model, benchmark.train[0].images, *([0] if heads else []))
    assert everything.diagnostics["implicit_regulariser"] == pytest.approx(expected, rel=1e-5)
    _, same = train_toy([some], tasks=1, heads=heads)
    assert equal(bits(model), bits(same))  # what is measured moves nothing
    assert some.diagnostics["implicit_regulariser"] == pytest.approx(expected, rel=0.3)
    train_toy([none], tasks=1)
    assert none.diagnostics == {}


@pytest.mark.parametrize("strategy", ["label-noise", "squared-label-noise"])
def test_a_stack_is_the_trials_one_by_one(toy_spec, strategy):
    specs = [toy_spec(strategy, seed=seed, epochs=1, benchmark="toy:samples=128") for seed in (0, 1)]
    assert stackable(specs[0])
    for spec, stacked in zip(specs, run_stack(specs, threads=1), strict=True):
        alone = run_one(spec, threads=1)
        for row, expected in zip(stacked.losses, alone.losses, strict=True):
            assert list(row) == pytest.approx(list(expected), rel=1e-3)
        for one, other in zip(stacked.diagnostics[strategy], alone.diagnostics[strategy], strict=True):
            assert one["implicit_regulariser"] == pytest.approx(other["implicit_regulariser"], rel=1e-2)


def test_it_goes_on_from_a_checkpoint(toy_spec, tmp_path):
    class Stop(Exception):
        pass

    def stop(history, share):
        raise Stop

    spec, file = toy_spec("label-noise+sam", benchmark="toy:samples=128"), tmp_path / "checkpoints" / "run.safetensors"
    whole = run_one(spec, threads=1)
    with pytest.raises(Stop):
        run_one(spec, threads=1, checkpoint=file, on_task=stop)
    shares = []
    resumed = run_one(spec, threads=1, checkpoint=file, on_task=lambda history, share: shares.append(share))
    assert len(shares) == 2 and resumed.provenance["weights_sha256"] == whole.provenance["weights_sha256"]


@pytest.mark.parametrize(
    "setting",
    [
        {"loss": "hinge"},
        {"law": "cauchy"},
        {"rate": 1.5},
        {"rate": math.nan},
        {"sigma": -1.0},
        {"sigma": math.inf},
        {"diagnose": -1},
    ],
    ids=str,
)
def test_senseless_values_are_refused(setting):
    with pytest.raises(UserError, match=f"^{next(iter(setting))} must"):
        LabelNoisePlugin(**setting)


@each_form
def test_two_of_a_form_are_refused(train_toy, make):
    with pytest.raises(UserError, match="takes one LabelNoisePlugin of a form"):
        train_toy([make(), make()])


@pytest.mark.parametrize("backwards", [False, True])
def test_the_two_forms_together_are_the_squared_loss_with_both_kinds_of_noise(train_toy, backwards):
    model, plugins = network(), [keeping(rate=0.3, seed=1), keeping("squared", sigma=0.5, seed=2)]
    by_hand = deepcopy(model)
    train_toy(plugins[::-1] if backwards else plugins, model=model, optimizer=sgd)
    optimizer = sgd(by_hand)
    for (x, y, given), (_, _, epsilon) in zip(*(plugin.kept for plugin in plugins), strict=True):
        assert 0 < int((given != y).sum()) < 25
        optimizer.zero_grad()
        (0.5 * (by_hand(x) - one_hot(given, 4) - epsilon).square().sum(1).mean()).backward()
        optimizer.step()
    for p, q in zip(bits(model), bits(by_hand), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@each_form
def test_what_a_gem_asks_about_its_memory_has_the_same_loss_without_noise(train_toy, make):
    compared = []

    class Check(AGEMPlugin):
        def sample_from_memory(self):
            self.drawn = super().sample_from_memory()
            return self.drawn

        def before_training_iteration(self, strategy, **kwargs):
            super().before_training_iteration(strategy, **kwargs)
            if not self.buffers:
                return
            (x, y), plugin = self.drawn[:2], strategy.plugins[0]
            outputs = strategy.model(x)
            half = 0.5 * (outputs - one_hot(y, 4)).square().sum(1).mean()
            loss = half if plugin.loss == "squared" else cross_entropy(outputs, y)
            expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(strategy.model.parameters()))])
            torch.testing.assert_close(self.reference_gradients, expected, rtol=1e-5, atol=1e-7)
            compared.append(float(expected.norm()))

    train_toy([make(), Check(50)])
    assert len(compared) == 4 and min(compared) > 0


def test_each_of_the_two_strategies_has_parameters_with_an_effect_alone():
    for name, own, other in (
        ("label-noise", "rate=0.2", "sigma=0.2"),
        ("squared-label-noise", "law=gaussian", "rate=0.2"),
    ):
        grammar.parse_sum(f"{name}:{own}")
        with pytest.raises(UserError):
            grammar.parse_sum(f"{name}:{other}")
        for searched in catalog.search(catalog.maker("strategies", name)):
            grammar.parse_sum(f"{name}:{searched}=0.2")


def test_fresh_noise_on_the_squared_loss_lowers_the_regulariser_of_a_network_that_fits(train_toy):
    """The plug-in itself does what the theory says, on a network and after the noise is off again."""

    def measured(sigma):
        model = MLP(20, 4, width=32)
        benchmark = catalog.maker("benchmarks", "toy")(tasks=1, samples=32, seed=0)
        torch.manual_seed(1)
        for p in model.parameters():
            nn.init.normal_(p, std=0.4)
        for plugin in (LabelNoisePlugin("squared", sigma=sigma), LabelNoisePlugin("squared", sigma=0.0)):
            train_toy(
                [plugin],
                model=model,
                optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.02),
                epochs=250,
                benchmark=benchmark,
            )
        x, y = benchmark.train[0].images, benchmark.train[0].labels
        loss = float(0.5 * (model(x).detach() - one_hot(y, 4)).square().sum(1).mean())
        return implicit_regulariser(model, x), loss

    (plain, plain_loss), (noisy, noisy_loss) = measured(0.0), measured(1.5)
    assert plain_loss < 0.01 and noisy_loss < 0.01
    assert noisy < 0.8 * plain, (noisy, plain, noisy_loss)
