"""Time to fit is read off the training curve, in epochs and gradients, or says why there is none."""

import math
from dataclasses import replace

import pytest

from cl_nvrm import data
from cl_nvrm.analysis.comparisons import cells
from cl_nvrm.analysis.time_to_fit import TimeToFit, time_to_fit
from cl_nvrm.spec import RunResult, RunSpec, grammar
from cl_nvrm.spec.cell_names import cell_names
from cl_nvrm.study.figures.fitting import curves, shares
from cl_nvrm.training.train import run_one

RISING = (0.2, 0.7, 0.95, 1.0, 0.99, 1.0)


@pytest.fixture
def result(toy_spec):
    def make(curve=RISING, *, strategy="naive", seed=0, status="done", accuracy=((0.5,),), passes=60):
        return RunResult(
            spec=toy_spec(strategy, seed=seed),
            status=status,
            accuracy=accuracy,
            curves={"test accuracy": (0.1,) * len(curve), "training accuracy": tuple(curve)} if curve else {},
            provenance={} if passes is None else {"gradient_passes": passes},
        )

    return make


@pytest.mark.parametrize(("level", "epoch"), [(1.0, 4), (0.95, 3), (0.9, 3), (0.7, 2), (0.01, 1)])
def test_it_is_the_first_epoch_at_the_level_with_all_gradients_until_its_end(result, level, epoch):
    assert time_to_fit(result(), level) == TimeToFit(epoch, 10 * epoch)


def test_epochs_that_early_stopping_forgot_have_taken_gradients_too(result):
    kept = replace(result(RISING[:4]), losses=((1.0,) * 6,))
    assert time_to_fit(kept) == TimeToFit(4, 40)


def test_a_level_that_is_never_reached_gives_none_and_the_best_there_was(result):
    found = time_to_fit(result(RISING[:3]))
    assert (found.epoch, found.gradients) == (None, None)
    assert found.reason == "the best of 3 epochs has 95.00 %, not 100 %"


def test_what_is_not_known_is_none_with_its_reason(result):
    assert "not recorded" in time_to_fit(result(())).reason
    assert "several tasks" in time_to_fit(result(accuracy=((0.5, 0.1), (0.4, 0.5)))).reason
    for partly in (result(passes=None), result(status="diverged")):
        found = time_to_fit(partly)
        assert found.epoch == 4 and found.gradients is None and "gradients" in found.reason


@pytest.mark.parametrize("level", [0.0, -1.0, 1.01, float("nan")])
def test_a_level_that_is_none_is_refused(result, level):
    with pytest.raises(ValueError, match="level must lie within 0"):
        time_to_fit(result(), level)


@pytest.mark.parametrize(("strategy", "passes"), [("naive", 1), ("sam", 2)])
def test_gradients_of_a_run_are_those_of_its_batches(strategy, passes):
    spec = RunSpec(
        strategy=grammar.canonical(grammar.parse_sum(strategy)),
        benchmark=str(grammar.parse("benchmarks", "random-labels:subset=100,p=0,model=mlp(width=64,depth=1)")),
        dataset="digits",
        dataset_sha256=data.load("digits").sha256,
        seed=0,
        epochs=14,
        batch_size=30,
        optimizer=str(grammar.parse("optimizers", "sgd:momentum=0.9")),
        lr=0.05,
        weight_decay=0.0,
    )
    ended = run_one(spec, threads=1)
    found = time_to_fit(ended, 0.9)
    assert 1 < found.epoch < 14 and found.gradients == passes * 4 * found.epoch  # the fourth batch has ten samples
    assert (
        ended.curves["training accuracy"][found.epoch - 1]
        >= 0.9
        > max(ended.curves["training accuracy"][: found.epoch - 1])
    )


def drawn(results):
    return curves(cells(results, cell_names([r.spec for r in results])), "a title")


def test_the_figure_has_a_line_a_cell_through_the_means_and_says_when_each_has_fitted(result):
    later = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    figure = drawn([result(), result(later, seed=1), result(later[:5], strategy="nvrm")])
    axis = figure.axes[0]
    naive, nvrm = axis.get_lines()[:2]
    assert list(naive.get_ydata()) == pytest.approx([100 * (a + b) / 2 for a, b in zip(RISING, later, strict=True)])
    assert list(nvrm.get_ydata()) == pytest.approx([10, 30, 50, 70, 90])
    assert list(nvrm.get_xdata()) == [1, 2, 3, 4, 5]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["naive: fitted at epoch 5", "nvrm: not fitted"]
    title, about = figure.get_suptitle().splitlines()
    assert title == "a title" and "n = 1 to 2" in about


def test_a_cell_some_of_whose_seeds_have_not_fitted_says_how_many_have(result):
    figure = drawn([result(), result(RISING[:3], seed=1)])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["naive: fitted at epoch 4 (1 of 2 seeds)"]


def test_runs_that_recorded_nothing_or_did_not_end_are_left_out(result):
    figure = drawn([result(), result((), strategy="nvrm"), replace(result(strategy="sam"), status="diverged")])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["naive: fitted at epoch 4"]
    assert "n = 1" in figure.get_suptitle()
    empty = drawn([result(())])
    assert not empty.legends and not empty.axes[0].get_lines()


def test_shares_are_drawn_over_what_share_of_labels_is_random(result, toy_spec):
    def of(p, seed, curve):
        made = result(curve, seed=seed, accuracy=((0.9 - 0.8 * p,),))
        return replace(made, spec=toy_spec(benchmark=f"random-labels:p={p}", seed=seed))

    results = [of(0, 0, RISING), of(0, 1, RISING), of(0.5, 0, RISING[:2])]
    figure = shares(cells(results, cell_names([r.spec for r in results])), "a title")
    errors, epochs = (axis.get_lines()[0] for axis in figure.axes)
    assert list(errors.get_xdata()) == [0, 0.5] and list(errors.get_ydata()) == pytest.approx([10, 50])
    first, second = epochs.get_ydata()
    assert first == 4 and math.isnan(second), "not fitted: no point"
    assert "n = 1 to 2" in figure.get_supxlabel()
