"""Early stopping ends a task when it should, at the weights it should, for every other plug-in."""

import itertools

import pytest
import torch
from torch import nn

from cl_nvrm import data
from cl_nvrm.analysis.metrics import metric
from cl_nvrm.benchmark import Watched
from cl_nvrm.errors import UserError
from cl_nvrm.plugins.early_stopping import VALIDATION, EarlyStoppingPlugin
from cl_nvrm.plugins.ewc import EWCPlugin
from cl_nvrm.plugins.nvrm import NVRMPlugin
from cl_nvrm.plugins.sam import SAMPlugin
from cl_nvrm.plugins.si import SIPlugin
from cl_nvrm.spec import RunSpec, catalog, grammar
from cl_nvrm.training.packing import Packer
from cl_nvrm.training.record import Curves
from cl_nvrm.training.train import run_one


def state(model):
    return [tensor.detach().clone() for tensor in model.state_dict().values()]


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


class Scripted(Curves):
    """A validation curve that is given, task after task, and the network after each epoch."""

    def __init__(self, *values):
        data = catalog.maker("benchmarks", "toy")(tasks=1, samples=16, seed=0).train[0]
        super().__init__([Watched(data, {VALIDATION: (torch.arange(16), data.labels)})])
        self.script, self.states = list(values), []

    def after_training_epoch(self, strategy, **kwargs):
        self.values.setdefault(VALIDATION, []).append(self.script.pop(0))
        self.states.append(state(strategy.model))


def stopped(train_toy, script, *, patience=2, restore=True, epochs=6, tasks=1, more=(), **options):
    plugin, curves = EarlyStoppingPlugin(patience, restore=restore), Scripted(*script)
    _, model = train_toy([plugin, *more, curves], epochs=epochs, tasks=tasks, **options)
    return plugin, curves, model


@pytest.mark.parametrize(
    ("script", "patience", "epochs", "best"),
    [
        ((0.5, 0.4, 0.3, 0.9), 2, 3, 1),
        ((0.5, 0.4, 0.6, 0.5, 0.6, 0.9), 2, 5, 3),  # a value that is as good is no better
        ((0.5, 0.4, 0.9), 1, 2, 1),
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6), 1, 6, 6),
        ((0.1, 0.2, 0.3, 0.6, 0.5, 0.4), 2, 6, 4),  # out of patience after the last epoch
        ((0.1, 0.2, 0.3, 0.4, 0.6, 0.4), 9, 6, 5),
        ((0.0, 0.0, 0.0, 0.9), 2, 3, 1),
    ],
)
def test_it_stops_after_its_patience_and_goes_back_to_the_best_epoch(train_toy, script, patience, epochs, best):
    plugin, curves, model = stopped(train_toy, script, patience=patience)
    assert len(curves.states) == epochs
    assert equal(state(model), curves.states[best - 1])
    assert plugin.diagnostics == {"epochs": epochs, "best_epoch": best, "best_validation": script[best - 1]}
    assert not equal(*itertools.islice(curves.states, 2))


def test_without_restoring_it_only_stops(train_toy):
    plugin, curves, model = stopped(train_toy, (0.5, 0.4, 0.3, 0.9), restore=False)
    assert len(curves.states) == 3 and equal(state(model), curves.states[-1])
    assert plugin.diagnostics["best_epoch"] == 1


def test_patience_that_never_ends_without_restoring_is_plain_training(train_toy):
    _, _, model = stopped(train_toy, [0.5] * 4, patience=99, restore=False, epochs=4)
    assert equal(state(model), state(train_toy([], epochs=4, tasks=1)[1]))


def test_running_statistics_go_back_with_the_weights(train_toy):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    _, curves, model = stopped(train_toy, (0.5, 0.4, 0.3), model=model)
    assert equal(state(model), curves.states[0])
    assert int(model[1].num_batches_tracked) == 4


def test_every_task_starts_anew(train_toy):
    plugin, curves, model = stopped(train_toy, (0.9, 0.8, 0.7, 0.1, 0.3, 0.2, 0.1), tasks=2)
    assert len(curves.states) == 7 and not curves.script
    assert equal(state(model), curves.states[4])
    assert plugin.diagnostics == {"epochs": 4, "best_epoch": 2, "best_validation": 0.3}


def test_the_next_task_and_other_plug_ins_find_the_best_weights(train_toy):
    ewc = EWCPlugin(10.0)
    _, curves, _ = stopped(train_toy, (0.9, 0.8, 0.7), more=[ewc])
    assert equal(list(ewc.anchor.values()), curves.states[0])


def test_the_order_of_plug_ins_does_not_change_a_bit(train_toy):
    results = []
    for order in list(itertools.permutations(range(5)))[::17]:
        made = [EarlyStoppingPlugin(2), EWCPlugin(10.0), NVRMPlugin(0.02, seed=7), SIPlugin(1.0), SAMPlugin(0.05)]
        curves = Scripted(0.9, 0.8, 0.7, 0.1, 0.3, 0.2, 0.2, 0.1)
        _, model = train_toy([*(made[i] for i in order), curves], epochs=4)
        assert len(curves.states) == 7
        results.append(state(model))
    assert all(equal(results[0], other) for other in results[1:])


def test_an_error_in_one_task_leaves_nothing_to_the_next(train_toy):
    class Fails(Scripted):
        def after_training_epoch(self, strategy, **kwargs):
            super().after_training_epoch(strategy, **kwargs)
            if len(self.states) == 2:
                raise ArithmeticError

    plugin, curves = EarlyStoppingPlugin(2), Fails(0.9, 0.8, 0.1, 0.3, 0.2)
    kept = {}
    with pytest.raises(ArithmeticError):
        train_toy([plugin, curves, Remember(kept)], epochs=3, tasks=1)
    strategy = kept["strategy"]
    strategy.train(kept["experience"])
    assert equal(state(strategy.model), curves.states[3]) and "_after_training_exp" not in vars(strategy)


class Remember(Curves):
    """Keeps the strategy, which the fixture does not return if something raises."""

    def __init__(self, kept):
        super().__init__([])
        self.kept = kept

    def before_training(self, strategy, **kwargs):
        pass

    def before_training_exp(self, strategy, **kwargs):
        self.kept |= {"strategy": strategy, "experience": strategy.experience}


def test_its_state_can_be_written_down(train_toy):
    plugin, _, _ = stopped(train_toy, (0.9, 0.8, 0.7))
    packer = Packer({})
    assert packer.attributes(plugin) and not packer.tensors


def test_patience_that_is_none_is_refused():
    with pytest.raises(UserError, match="patience must be at least 1 epoch, got 0"):
        EarlyStoppingPlugin(0)


def test_a_benchmark_without_validation_says_what_to_write(toy_spec, train_toy):
    with pytest.raises(UserError, match="random-labels:validation=1000"):
        run_one(toy_spec("early-stopping"))
    with pytest.raises(UserError, match="random-labels:validation=1000"):
        train_toy([EarlyStoppingPlugin()])


@pytest.fixture(scope="module")
def spec():
    images = data.load("digits")

    def make(strategy, **changes):
        values = {"seed": 0, "epochs": 40, "batch_size": 32, "lr": 0.03, "weight_decay": 0.0} | changes
        benchmark = "random-labels:subset=600,p=0.5,validation=200,model=mlp(width=128,depth=1)"
        return RunSpec(
            strategy=grammar.canonical(grammar.parse_sum(strategy)),
            benchmark=str(grammar.parse("benchmarks", benchmark)),
            dataset="digits",
            dataset_sha256=images.sha256,
            optimizer=str(grammar.parse("optimizers", "sgd:momentum=0.9")),
            **values,
        )

    return make


@pytest.mark.slow
def test_it_ends_training_before_random_labels_are_fitted(spec):
    plain, early = (run_one(spec(name), threads=1) for name in ("naive", "early-stopping"))
    (found,) = early.diagnostics["early-stopping"]
    epochs, best = found["epochs"], found["best_epoch"]
    assert epochs == best + 5 < 40
    for name, curve in early.curves.items():
        assert curve == plain.curves[name][:best], "until then it is the same run"
    assert max(early.curves[VALIDATION]) == found["best_validation"] == early.curves[VALIDATION][-1]
    assert early.accuracy[0][0] == early.curves["test accuracy"][-1] > plain.accuracy[0][0] + 0.1
    assert metric("memorised", early).value < 0.3 < 0.9 < metric("memorised", plain).value


def test_curves_end_with_the_epoch_whose_weights_remain(train_toy):
    script = (0.5, 0.9, 0.7, 0.6, 0.1, 0.3, 0.2, 0.1)
    _, curves, _ = stopped(train_toy, script, tasks=2)
    assert curves.values[VALIDATION] == [0.5, 0.9, 0.1, 0.3]
    _, curves, _ = stopped(train_toy, script, tasks=2, restore=False)
    assert curves.values[VALIDATION] == list(script)


def test_the_final_weights_are_those_of_a_run_that_ends_with_the_best_epoch(spec):
    early = run_one(spec("early-stopping+nvrm"), threads=1)
    (found,) = early.diagnostics["early-stopping"]
    short = run_one(spec("nvrm", epochs=found["best_epoch"]), threads=1)
    assert early.provenance["weights_sha256"] == short.provenance["weights_sha256"]
