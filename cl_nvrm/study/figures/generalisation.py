"""Figures of methods, strengths and robustness; nothing here reads or writes a file.

Bands and bars are 95 % confidence intervals (t) of the mean over seeds.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cl_nvrm.analysis.comparisons import Cell
from cl_nvrm.analysis.metrics import metric
from cl_nvrm.analysis.robustness import Draws
from cl_nvrm.analysis.stats import t_interval
from cl_nvrm.noise import law
from cl_nvrm.report.figures import epoch_curves, finished
from cl_nvrm.report.lines import mean_line
from cl_nvrm.spec import RunResult, RunSpec, grammar
from cl_nvrm.spec.cell_names import short_name
from cl_nvrm.spec.curves import CORRECTED, MEMORISED, TRAINING
from cl_nvrm.study.figures.captions import caption

ACCURACY = "ACC"
HEADINGS = {ACCURACY: "Final test accuracy (%)", MEMORISED: "Wrong labels memorised (%)"}
OTHERS = ("validated accuracy", "best accuracy", TRAINING, "generalisation gap", CORRECTED)
MARKS = "osD^vPX*"
Cells = Sequence[Cell]
Results = Sequence[RunResult]


def curves(cells: Cells, title: str) -> Figure:
    """Draw what was recorded after every epoch."""
    return epoch_curves(cells, title)


def scales(cells: Cells, title: str) -> Figure:
    """Draw final accuracy and memorisation against the scale of the noise, a line a method, plain training across."""
    lines = _by(cells, lambda spec: (grammar.family(spec.strategy), _setting(spec, "variability")))
    return _lines(lines, "Scale of the noise", title, baseline=_plain(cells))


def laws(cells: Cells, title: str) -> Figure:
    """Draw final accuracy and memorisation against the standard deviation of the noise, a line a law.

    In the paper's convention b is the raw scale of each law; its standard deviation is b for the Gaussian, √2 b for
    Laplace's and b / √3 for the uniform one. Over the standard deviation, both conventions are in one figure.
    """

    def place(spec: RunSpec) -> tuple[str, float | None]:
        kind, b = _setting_text(spec, "noise"), _setting(spec, "variability")
        spread = law(kind, _setting_text(spec, "scale")).variance ** 0.5 if kind else 1.0
        return kind, None if b is None else b * spread

    return _lines(_by(cells, place), "Standard deviation of the noise", title, baseline=_plain(cells))


def learning_rates(cells: Cells, title: str) -> Figure:
    """Draw final accuracy and memorisation against the learning rate, a line a method."""
    return _lines(_by(cells, lambda spec: (short_name(spec.strategy), spec.lr)), "Initial learning rate", title)


def methods(cells: Cells, title: str) -> Figure:
    """Draw each method's metrics with their intervals, side by side."""
    shown = [name for name in (ACCURACY, *OTHERS, MEMORISED) if any(cell.values(name) for cell in cells)]
    figure = Figure(figsize=(2.6 * len(shown) + 1.6, 1.4 + 0.42 * len(cells)), layout="constrained")
    with sns.axes_style("whitegrid"):
        axes = list(figure.subplots(1, len(shown), squeeze=False, sharey=True).flat)
    for axis, name in zip(axes, shown, strict=True):
        for row, cell in enumerate(cells):
            values = _values(cell.done, name)
            if values:
                low, high = t_interval(values)
                axis.plot([low, high], [row, row], color="0.4", lw=1.4)
                axis.plot(np.mean(values), row, "o", color=sns.color_palette("colorblind")[0])
        axis.set_xlabel(HEADINGS.get(name, f"{name.capitalize()} (%)"), fontsize="small")
    axes[0].set_yticks(range(len(cells)), [cell.name for cell in cells])
    axes[0].invert_yaxis()
    return caption(figure, title, [len(cell.done) for cell in cells])


def perturbed(cells: Cells, answers: Mapping[str, Sequence[Draws]], title: str) -> Figure:
    """Draw test accuracy against the scale of the noise on trained weights, a line a cell.

    ``answers`` has what each run came to at each scale, by its id. Bands are over training runs; each run's accuracy
    is its mean over draws.
    """
    rows = [
        (cell.name, result.spec.seed, draws.scale, 100 * draws.accuracy)
        for cell in cells
        for result in cell.done
        for draws in answers[result.id]
    ]
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    with sns.axes_style("whitegrid"):
        axis = figure.subplots()
    _draw(axis, pd.DataFrame(rows, columns=["line", "seed", "x", "value"]))
    axis.set(xlabel="Standard deviation of the noise on every weight", ylabel="Test accuracy (%)")
    axis.legend()
    return caption(figure, title, [len(cell.done) for cell in cells])


def _by(cells: Cells, place: Callable[[RunSpec], tuple[str, float | None]]) -> pd.DataFrame:
    """A row a run and metric, where the run has a place: a line's name and x."""
    rows = [
        (line, r.spec.seed, x, name, 100 * value)
        for r in finished(cells)
        for line, x in [place(r.spec)]
        for name in HEADINGS
        if x is not None and (value := metric(name, r).value) is not None
    ]
    return pd.DataFrame(rows, columns=["line", "seed", "x", "metric", "value"])


def _lines(table: pd.DataFrame, along: str, title: str, baseline: Results = ()) -> Figure:
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    with sns.axes_style("whitegrid"):
        axes = list(figure.subplots(1, len(HEADINGS)))
    for axis, (name, heading) in zip(axes, HEADINGS.items(), strict=True):
        _draw(axis, table[table.metric == name])
        values = _values(baseline, name)
        if values:
            axis.axhline(float(np.mean(values)), color="0.3", ls="--", lw=1.2, label="naive")
            axis.axhspan(*t_interval(values), color="0.3", alpha=0.12, lw=0)
        axis.set(xscale="log", xlabel=along, ylabel=heading)
    axes[0].legend()
    return caption(figure, title, table.groupby(["line", "x"]).seed.nunique().tolist())


def _draw(axis: Axes, table: pd.DataFrame) -> None:
    for number, (line, part) in enumerate(table.groupby("line", sort=False)):
        xs = sorted(set(part.x.tolist()))
        groups = [part[part.x == x].value.tolist() for x in xs]
        mean_line(axis, xs, groups, number, str(line), marker=MARKS[number % len(MARKS)], ms=5)


def _plain(cells: Cells) -> Results:
    return [r for r in finished(cells) if r.spec.strategy == grammar.NEUTRAL]


def _values(results: Results, name: str) -> list[float]:
    return [100 * value for r in results if (value := metric(name, r).value) is not None]


def _setting(spec: RunSpec, key: str) -> float | None:
    value = next((t.settings[key] for t in grammar.parse_sum(spec.strategy) if key in t.settings), None)
    return None if value is None else float(value)


def _setting_text(spec: RunSpec, key: str) -> str:
    return str(next((t.settings[key] for t in grammar.parse_sum(spec.strategy) if key in t.settings), ""))
