"""The figure of neuron steadiness, from what runs recorded."""

import pytest

from cl_nvrm.analysis.comparisons import cells
from cl_nvrm.spec import RunResult
from cl_nvrm.spec.cell_names import cell_names
from cl_nvrm.study.figures.variances import curves, recorded


@pytest.fixture
def result(toy_spec):
    def make(strategy="nsr", *, seed=0, scale=1.0):
        by_epoch = {"intra_class_variance": [3.0 * scale, 1.0 * scale], "cross_entropy": [0.5, 0.25]}
        return RunResult(
            spec=toy_spec(strategy, seed=seed),
            status="done",
            accuracy=((0.9,),),
            curves={"test accuracy": (0.8, 0.9)},
            diagnostics={} if strategy == "naive" else {"nsr": [{"by_epoch": by_epoch}]},
        )

    return make


def test_what_a_run_recorded_is_found_and_nothing_else(result):
    assert recorded(result(), "intra_class_variance") == [3.0, 1.0]
    assert recorded(result(), "test error") == pytest.approx([20, 10])
    assert recorded(result("naive"), "cross_entropy") == []


def test_a_panel_has_the_means_of_each_cell_that_recorded_it(result):
    results = [result(), result(seed=1, scale=3.0), result("naive")]
    figure = curves(cells(results, cell_names([r.spec for r in results])), "a title")
    variance, entropy, error = figure.axes
    assert [list(line.get_ydata()) for line in variance.get_lines()] == [[6.0, 2.0]]
    assert [list(line.get_ydata()) for line in entropy.get_lines()] == [[0.5, 0.25]]
    assert [line.get_label() for line in error.get_lines()] == ["nsr", "naive"]
    assert "n = 1 to 2" in figure.get_supxlabel()
