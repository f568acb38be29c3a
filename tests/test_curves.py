"""What is watched after every epoch is what the network would answer then, and watching changes nothing."""

from dataclasses import replace

import pytest
import torch

from cl_nvrm.analysis.metrics import summary
from cl_nvrm.benchmark import TaskData, Watched
from cl_nvrm.spec import RunResult, RunSpec, grammar
from cl_nvrm.training import train
from cl_nvrm.training.evaluate import accuracy_on, shares_right
from cl_nvrm.training.stack import run_stack
from cl_nvrm.training.train import run_one

NOISY = "noisy-mnist:subset=300,model=mlp(width=32,depth=1)"
NAMES = ["test accuracy", "training accuracy", "memorised", "corrected"]


@pytest.fixture(scope="module")
def noisy_spec():
    from cl_nvrm import data

    images = data.load("digits")

    def make(strategy="naive", benchmark=NOISY, **changes):
        values = {"seed": 0, "epochs": 12, "batch_size": 32, "lr": 0.05, "weight_decay": 0.0} | changes
        return RunSpec(
            strategy=grammar.canonical(grammar.parse_sum(strategy)),
            benchmark=str(grammar.parse("benchmarks", benchmark)),
            dataset="digits",
            dataset_sha256=images.sha256,
            optimizer=str(grammar.parse("optimizers", "sgd:momentum=0.9")),
            **values,
        )

    return make


@pytest.fixture(scope="module")
def result(noisy_spec):
    return run_one(noisy_spec())


def test_there_is_one_number_an_epoch_for_each_thing_watched(result):
    assert sorted(result.curves) == sorted(NAMES)
    assert {len(curve) for curve in result.curves.values()} == {12}
    assert result.curves["test accuracy"][-1] == result.accuracy[0][0]


def test_a_network_that_fits_everything_has_memorised_its_flips(noisy_spec):
    """Training accuracy splits into flipped and other samples; at rate 0.4 the flipped ones weigh 0.4."""
    result = run_one(noisy_spec(benchmark=f"{NOISY},holdout=100", epochs=150, lr=0.03))
    rate = result.diagnostics["flip_rate"]
    final = {name: curve[-1] for name, curve in result.curves.items()}
    assert final["training accuracy"] > 0.8 and final["memorised"] > 0.6
    assert final["memorised"] + final["corrected"] <= 1
    right_of_others = (final["training accuracy"] - rate * final["memorised"]) / (1 - rate)
    assert final["memorised"] <= right_of_others <= 1


def test_a_network_that_is_told_the_labels_scores_as_the_labels_say():
    """Logits that are the true label's indicator: test 1, training 1 - rate, memorised 0, corrected 1."""
    true = torch.arange(40) % 4
    x = torch.nn.functional.one_hot(true, 4).float()
    given = true.clone()
    given[:10] = (true[:10] + 1) % 4
    wrong = torch.arange(10)
    data = TaskData(x, given)
    against = {
        "all": (torch.arange(40), given),
        "memorised": (wrong, given[wrong]),
        "corrected": (wrong, true[wrong]),
    }
    assert shares_right(torch.nn.Identity(), Watched(data, against)) == {"all": 0.75, "memorised": 0, "corrected": 1}


def test_watching_leaves_the_weights_as_they_would_be(noisy_spec, monkeypatch):
    spec = noisy_spec("nvrm")
    watched = run_one(spec)
    build = train.build_benchmark

    def unwatched(*arguments):
        benchmark, images = build(*arguments)
        return replace(benchmark, watched=()), images

    monkeypatch.setattr(train, "build_benchmark", unwatched)
    blind = run_one(spec)
    assert watched.curves and not blind.curves
    assert watched.provenance["weights_sha256"] == blind.provenance["weights_sha256"]


def test_the_curve_of_a_noisy_strategy_is_taken_at_clean_weights(noisy_spec, monkeypatch):
    seen = []
    evaluate = train.accuracy_on

    def final(model, test):
        seen.append(evaluate(model, test))
        return seen[-1]

    monkeypatch.setattr(train, "accuracy_on", final)
    result = run_one(noisy_spec("nvrm:variability=0.1"))
    assert result.curves["test accuracy"][-1] == seen[-1]


def test_curves_survive_the_store(result):
    again = RunResult.from_json(result.to_json())
    assert again == result and again.curves == result.curves


def test_the_metrics_read_the_curves(result):
    found = {name: metric.value for name, metric in summary(result).items()}
    curve = result.curves["test accuracy"]
    assert found["best accuracy"] == max(curve)
    assert found["late accuracy"] == pytest.approx(sum(curve[-10:]) / 10)
    assert found["generalisation gap"] == result.curves["training accuracy"][-1] - curve[-1]
    assert found["memorised"] == result.curves["memorised"][-1]
    assert found["base task"] is None and found["BWT"] is None


def test_flips_are_recorded_among_the_diagnostics(result):
    assert result.diagnostics["flip_rate"] == pytest.approx(0.4, abs=0.02)
    assert len(result.diagnostics["flips_sha256"]) == 16


@pytest.mark.parametrize(("strategy", "passes"), [("naive", 1), ("nvrm", 1), ("psgd", 1), ("sam", 2), ("asam", 2)])
def test_gradients_are_counted(toy_spec, strategy, passes):
    result = run_one(toy_spec(strategy, epochs=1))
    assert result.provenance["gradient_passes"] == passes * 3 * 16  # tasks, batches of 32 of 512 samples


def test_a_watched_benchmark_is_not_stacked(noisy_spec):
    from cl_nvrm.errors import UserError

    with pytest.raises(UserError, match="--stack off"):
        run_stack([noisy_spec(seed=seed) for seed in (0, 1)])


def test_evaluation_leaves_modes_as_they_were_also_after_an_error():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout())
    model.train()
    with pytest.raises(RuntimeError):
        accuracy_on(model, TaskData(torch.randn(3, 5), torch.zeros(3, dtype=torch.long)))
    assert model.training and model[1].training


def test_augmentation_reaches_training_batches_only(noisy_spec):
    plain, cropped = (
        run_one(noisy_spec(benchmark=f"noisy-cifar10:subset=64,model=small-cnn(width=8),augment={on}", epochs=2))
        for on in ("false", "true")
    )
    assert plain.provenance["weights_sha256"] != cropped.provenance["weights_sha256"]
    assert plain.initial == cropped.initial and plain.diagnostics["flips_sha256"] == cropped.diagnostics["flips_sha256"]


@pytest.mark.slow
def test_plain_training_memorises_its_flips_and_nvrm_corrects_most_of_them(noisy_spec):
    """Xie et al. 2021, experiment 3, at the size of a test; held-out labels are as noisy, so 0.6 is the most."""
    small = "noisy-mnist:subset=1000,holdout=500,model=mlp(width=256,depth=2)"
    options = {"benchmark": small, "epochs": 60, "lr": 0.02, "schedule": "steps:drops=2,factor=0.1"}
    naive, nvrm = (run_one(noisy_spec(name, **options), threads=1) for name in ("naive", "nvrm:variability=0.08"))
    plain, noisy = ({name: curve[-1] for name, curve in r.curves.items()} for r in (naive, nvrm))
    assert plain["memorised"] > 0.9 and plain["corrected"] < 0.1
    assert noisy["memorised"] < 0.4 and noisy["corrected"] > 0.5
