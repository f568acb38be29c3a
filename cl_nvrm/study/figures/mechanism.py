"""The figure that asks whether noise keeps old tasks, or smaller steps do."""

from collections.abc import Callable, Sequence

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from cl_nvrm.analysis.comparisons import Cell
from cl_nvrm.analysis.frontier import PLASTICITY, STABILITY, families
from cl_nvrm.analysis.metrics import METRICS
from cl_nvrm.analysis.stats import t_interval
from cl_nvrm.spec import RunResult, grammar

LOOK = "landscape"
MARKS = "osD^vPX*<>"


def noise_or_steps(cells: Sequence[Cell], title: str) -> Figure:
    """Draw what each setting keeps against plasticity, the distance it moved, and the flatness of the first minimum.

    A setting above the line of plain training at one distance keeps more than smaller steps do; lines join a method's
    settings in order of the horizontal axis, for one strength, where plain training has them over learning rates.
    """
    panels: tuple[tuple[str, Callable[[RunResult], float]], ...] = (
        ("Plasticity: accuracy on a task just learned (%)", _metric(PLASTICITY)),
        ("Distance from the first minimum, relative to its size", lambda result: _last(result, -1, "moved")),
        ("Rise of the first loss under noise, after its task", lambda result: _last(result, 0, "first_rise")),
    )
    figure = Figure(figsize=(13.5, 4.8), layout="constrained")
    with sns.axes_style("whitegrid"):
        axes = figure.subplots(1, len(panels), sharey=True)
    by_family = families(cells)
    colours = sns.color_palette("colorblind", len(by_family))
    for axis, (label, of) in zip(axes, panels, strict=True):
        for number, ((name, group), colour) in enumerate(zip(by_family.items(), colours, strict=True)):
            places = sorted(_place(cell, of) for cell in group)
            xs, ys = ([place[k][0] for place in places] for k in (0, 1))
            if plain := number == 0:
                axis.plot(xs, ys, color=colour, lw=1.4)
            for (x, x0, x1), (y, y0, y1) in places:
                axis.plot([x0, x1], [y, y], color=colour, lw=0.8, alpha=0.7)
                axis.plot([x, x], [y0, y1], color=colour, lw=0.8, alpha=0.7)
            axis.plot(xs, ys, MARKS[number % len(MARKS)], color=colour, ms=7 if plain else 5, label=_short(name))
        axis.set(xlabel=label)
    axes[0].set(ylabel="Stability: final accuracy on all earlier tasks (%)")
    axes[2].set_xscale("symlog", linthresh=1e-3)
    axes[0].legend(fontsize="small")
    trials = max(len(cell.done) for cell in cells)
    figure.suptitle(title)
    figure.supxlabel(f"points: settings; crosses: 95 % confidence intervals (t), n = {trials}", fontsize="small")
    return figure


Ends = tuple[float, float, float]


def _place(cell: Cell, of: Callable[[RunResult], float]) -> tuple[Ends, Ends]:
    """Mean and interval on both axes."""
    kept = _metric(STABILITY)
    return _ends([of(result) for result in cell.done]), _ends([kept(result) for result in cell.done])


def _ends(values: Sequence[float]) -> Ends:
    low, high = t_interval(values)
    return float(np.mean(values)), low, high


def _metric(name: str) -> Callable[[RunResult], float]:
    return lambda result: 100 * METRICS[name](result)


def _last(result: RunResult, task: int, name: str) -> float:
    value: float = result.diagnostics[LOOK][task][name]
    return value


def _short(name: str) -> str:
    """A family's name without who looks on."""
    family, comma, rest = name.partition(", ")
    terms = [term for term in grammar.PLUS.split(family) if term != LOOK]
    return "+".join(terms or [grammar.NEUTRAL]) + comma + rest
