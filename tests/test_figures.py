from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from cl_nvrm.analysis import metrics, stats
from cl_nvrm.analysis.comparisons import cells
from cl_nvrm.errors import UserError
from cl_nvrm.report import figures, save
from cl_nvrm.spec import RunResult, RunSpec

MATRIX = ((0.9, 0.1, 0.2), (0.7, 0.8, 0.1), (0.5, 0.6, 0.7))


def results(strategies=("naive",), seeds=3, status="done"):
    def spec(strategy, seed):
        return RunSpec(strategy, "toy", "synthetic", "", seed, 1, 32, "adam", 1e-3, 0.0)

    return [
        RunResult(spec(s, seed), status, tuple(tuple(v - 0.01 * seed for v in row) for row in MATRIX))
        for s in strategies
        for seed in range(seeds)
    ]


def runs(*arguments, **keywords):
    made = results(*arguments, **keywords)
    return cells(made, {r.spec.cell: r.spec.strategy.upper() for r in made})


def test_one_value_has_no_deviation_and_no_width():
    mean, sd = stats.mean_sd([0.5])
    assert mean == 0.5 and np.isnan(sd) and stats.t_interval([0.5]) == (0.5, 0.5)


def test_the_table_is_tidy_and_holds_finished_runs_only():
    table = figures.table(runs(("a", "b")))
    assert len(table) == 2 * 3 * 9
    assert list(table.columns) == ["family", "strategy", "seed", "after_task", "task", "accuracy"]
    assert figures.table(runs(status="diverged")).empty


@pytest.mark.parametrize("draw", [figures.base_task_curve, figures.mean_accuracy_curve])
def test_curves_show_means_bands_and_say_what_they_are(draw):
    figure = draw(runs(("a", "b")), "toy, n = 3")
    (axis,) = figure.axes
    expected = metrics.base_task if draw is figures.base_task_curve else metrics.mean_accuracy
    np.testing.assert_allclose(axis.lines[0].get_ydata(), 100 * (np.array(expected(MATRIX)) - 0.01))
    assert len([c for c in axis.collections if isinstance(c, PolyCollection)]) == 2
    assert [t.get_text() for t in axis.get_legend().get_texts()] == ["A", "B"]
    assert "95 % confidence intervals" in figure._supxlabel.get_text() and axis.get_title() == "toy, n = 3"


def test_one_trial_has_no_band_and_says_so():
    figure = figures.base_task_curve(runs(seeds=1), "toy, n = 1")
    assert not figure.axes[0].collections and "one trial" in figure._supxlabel.get_text()


def test_runs_without_curves_are_refused_in_words():
    assert not figures.over_epochs(runs())
    with pytest.raises(UserError, match="nothing was recorded after every epoch"):
        figures.epoch_curves(runs(), "toy")


@pytest.mark.parametrize("count", [1, 3, 4, 7])
def test_matrices_show_every_strategy_and_no_empty_axes(count):
    names = tuple("abcdefg"[:count])
    figure = figures.accuracy_matrices(runs(names), "toy")
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in shown] == [n.upper() for n in names]
    assert shown[0].texts[3].get_text() == "69"  # after task 2 on task 1: the mean of 70, 69 and 68


def test_a_figure_added_to_the_list_is_drawn_by_the_run_and_shown_by_the_report(cli, monkeypatch, tmp_path):
    from cl_nvrm.report.__main__ import write

    extra = figures.Drawing("extra", "An extra figure", lambda cells: True, figures.base_task_curve)
    monkeypatch.setattr(figures, "FIGURES", (*figures.FIGURES, extra))
    code, out, _ = cli("--benchmark", "toy:tasks=2,samples=128", "--epochs", 1, "--jobs", 1, "--quiet", "--out", "runs")
    assert code == 0 and "extra.png" in out
    write([tmp_path / "runs"], tmp_path / "page", "title")
    assert "An extra figure" in (tmp_path / "page" / "index.html").read_text()


@pytest.mark.parametrize(
    ("about", "second"),
    [
        ({"heads": 5, "chance": 0.5}, "5 heads, chance 50 %"),
        ({"heads": 1, "chance": 0.005}, "1 head, chance 0.5 %"),
        ({}, ""),
    ],
)
def test_what_a_run_draws_says_what_guessing_would_give(tmp_path, monkeypatch, about, second):
    titles = []
    shown = figures.Drawing("one", "", lambda cells: True, lambda cells, title: titles.append(title))
    monkeypatch.setattr(figures, "FIGURES", (shown,))
    monkeypatch.setattr(save, "save", lambda drawn, folder, about: [])
    save.draw(cells([replace(r, provenance=about) for r in results()], {results()[0].spec.cell: "NAIVE"}), tmp_path)
    assert titles == ["toy on synthetic, n = 3" + (f"\n{second}" if second else "")]
