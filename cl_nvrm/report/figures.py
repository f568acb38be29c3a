"""Figures of cells, and the one list of them that the run and the report go through; nothing here touches a file.

A tidy table has one row for each trial and point: columns family (the strategy without its values), strategy, seed,
after_task, task, accuracy (in [0, 1]; tasks count from 1).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from textwrap import fill

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cl_nvrm.analysis import frontier as frontiers
from cl_nvrm.analysis.bounds import BOUNDS
from cl_nvrm.analysis.comparisons import Cell
from cl_nvrm.analysis.frontier import PLASTICITY, STABILITY, front
from cl_nvrm.analysis.metrics import Matrix, base_task, mean_accuracy
from cl_nvrm.analysis.stats import t_interval
from cl_nvrm.errors import UserError
from cl_nvrm.report.lines import mean_lines
from cl_nvrm.spec import RunResult, grammar

CURVES_A_PANEL = 8


def table(cells: Sequence[Cell]) -> pd.DataFrame:
    """Return the tidy table of the finished trials."""
    rows = [
        (grammar.family(cell.spec.strategy), cell.name, r.spec.seed, t + 1, k + 1, value)
        for cell in cells
        for r in cell.done
        for t, row in enumerate(r.accuracy)
        for k, value in enumerate(row)
    ]
    return pd.DataFrame(rows, columns=["family", "strategy", "seed", "after_task", "task", "accuracy"])


def finished(cells: Sequence[Cell]) -> list[RunResult]:
    """Return the finished trials of all cells."""
    return [result for cell in cells for result in cell.done]


def over_epochs(cells: Sequence[Cell]) -> bool:
    """Return whether there is something to draw that was recorded after every epoch."""
    return any(r.curves for r in finished(cells))


def over_tasks(cells: Sequence[Cell]) -> bool:
    """Return whether there are several tasks to draw, or nothing else."""
    done = finished(cells)
    return any(len(r.accuracy) > 1 for r in done) or (bool(done) and not over_epochs(cells))


def several_settings(cells: Sequence[Cell]) -> bool:
    """Return whether some method was run with enough settings for a frontier."""
    return frontiers.several_settings(frontiers.families(cells))


def was_traced(cells: Sequence[Cell]) -> bool:
    """Return whether accuracy was recorded while tasks were trained."""
    return any(r.trace for r in finished(cells))


def has_losses(cells: Sequence[Cell]) -> bool:
    """Return whether training losses were recorded."""
    return any(any(task) for r in finished(cells) for task in r.losses)


def base_task_curve(cells: Sequence[Cell], title: str) -> Figure:
    """Draw the accuracy on the first task after each task, one curve a strategy."""
    return _curves(_per_run(cells, base_task), "Accuracy on the first task (%)", title)


def mean_accuracy_curve(cells: Sequence[Cell], title: str) -> Figure:
    """Draw the mean accuracy over the tasks learned so far after each task, one curve a strategy."""
    return _curves(_per_run(cells, mean_accuracy), "Mean accuracy, learned tasks (%)", title)


def loss_curve(cells: Sequence[Cell], title: str) -> Figure:
    """Draw the mean training loss of each epoch, tasks one after the other, one curve a strategy."""
    rows = [
        (grammar.family(cell.spec.strategy), cell.name, r.spec.seed, epoch, loss)
        for cell in cells
        for r in cell.done
        for epoch, loss in enumerate((loss for task in r.losses for loss in task), 1)
    ]
    curves = pd.DataFrame(rows, columns=["family", "strategy", "seed", "x", "value"])
    return _curves(curves, "Training loss, penalties included", title, "Epochs, task after task")


def trace_curve(cells: Sequence[Cell], title: str) -> Figure:
    """Draw the accuracy on the first task while all are trained, one curve a strategy, where it was recorded."""
    rows = []
    for cell in cells:
        for r in cell.done:
            ends = {t: iteration for t, iteration, _ in r.trace}  # the last of each task is its end
            for t, iteration, row in r.trace:
                at = t + iteration / ends[t]
                rows.append((grammar.family(cell.spec.strategy), cell.name, r.spec.seed, at, 100 * row[0]))
    curves = pd.DataFrame(rows, columns=["family", "strategy", "seed", "x", "value"])
    return _curves(curves, "Accuracy on the first task (%)", title, "Tasks learned")


def epoch_curves(cells: Sequence[Cell], title: str) -> Figure:
    """Draw what was recorded after every epoch, a panel for each curve there is, one line a strategy.

    UserError if nothing was recorded.
    """
    done = finished(cells)
    recorded = list(dict.fromkeys(name for r in done for name in r.curves))
    if not recorded:
        raise UserError("nothing was recorded after every epoch, so there are no curves to draw")
    lines, trials = sum(bool(cell.done) for cell in cells), len({r.spec.seed for r in done})
    below = 0.26 * -(-lines // 3)  # inches of legend
    rows, columns = -(-len(recorded) // 2), min(2, len(recorded))
    figure = Figure(figsize=(4.8 * columns, 3.4 * rows + below + 0.6), layout="constrained")
    with sns.axes_style("whitegrid"):
        axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
    for axis, curve in zip(axes, recorded, strict=False):
        values = [
            (cell.name, r.spec.seed, epoch, 100 * value)
            for cell in cells
            for r in cell.done
            for epoch, value in enumerate(r.curves.get(curve, ()), 1)
        ]
        # More bands than that hide each other.
        part = pd.DataFrame(values, columns=["strategy", "seed", "x", "value"])
        _strategies(axis, part, band=trials > 1 and lines <= CURVES_A_PANEL)
        axis.set(xlabel="Epoch", ylabel=f"{curve.capitalize()} (%)")
        axis.get_legend().remove()
    for axis in axes[len(recorded) :]:
        axis.set_visible(False)
    handles, texts = axes[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=min(3, lines), fontsize="small", frameon=False)
    about = _band(trials if lines <= CURVES_A_PANEL else 0)
    about = f"n = {trials}; {about}" if trials > 1 and lines <= CURVES_A_PANEL else about
    figure.suptitle(f"{fill(title, 48 * columns)}\n{about}", fontsize="medium")
    return figure


def frontier(cells: Sequence[Cell], title: str) -> Figure:
    """Draw what each family keeps against how well it learns: a point a setting, a line along its frontier.

    A family's frontier may have settings of families that it contains. Bands and crosses are 95 % confidence intervals
    (t) of the means.
    """
    by_family = frontiers.families(cells)
    whole = frontiers.with_parts(by_family)
    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    with sns.axes_style("whitegrid"):
        axis = figure.subplots()
    palette = sns.color_palette("colorblind", len(by_family))
    marks = "osD^vPX*"
    for number, ((name, of), colour) in enumerate(zip(by_family.items(), palette, strict=True)):
        best = front(whole[name])
        xs, ys = (100 * np.array([point[k] for point, _ in best]) for k in (0, 1))
        ends = np.array([t_interval(list(cell.values(STABILITY).values())) for _, cell in best]) * 100
        axis.plot(xs, ys, color=colour, lw=1.6)
        axis.fill_between(xs, ends[:, 0], ends[:, 1], color=colour, alpha=0.15, lw=0)
        for cell in of:
            x, y = (np.array(list(cell.values(key).values())) * 100 for key in (PLASTICITY, STABILITY))
            (x0, x1), (y0, y1) = (t_interval(v.tolist()) for v in (x, y))
            on_front = any(cell is other for _, other in best)
            axis.plot([x0, x1], [y.mean()] * 2, color=colour, lw=0.8, alpha=0.7)
            axis.plot([x.mean()] * 2, [y0, y1], color=colour, lw=0.8, alpha=0.7)
            axis.plot(
                x.mean(), y.mean(), marks[number % len(marks)], color=colour, ms=6, alpha=1 if on_front else 0.35,
                mew=0, label=name if cell is of[0] else None,
            )  # fmt: skip
    axis.set(
        xlabel="Plasticity: accuracy on a task just learned (%)",
        ylabel="Stability: final accuracy on all earlier tasks (%)",
        title=title,
    )
    legend = axis.legend(title=None)
    for handle in filter(None, legend.legend_handles):
        handle.set_alpha(1)
    trials = max(len(cell.done) for of in by_family.values() for cell in of)
    figure.supxlabel(
        f"points: settings; lines: frontiers; bands and crosses: 95 % confidence intervals (t), n = {trials}",
        fontsize="small",
    )
    return figure


def accuracy_matrices(cells: Sequence[Cell], title: str) -> Figure:
    """Draw, for each strategy, the mean accuracy on every task (column) after every task (row) as a heat map."""
    runs = table(cells)
    strategies = list(dict.fromkeys(runs.strategy))
    columns = min(3, len(strategies))
    rows = -(-len(strategies) // columns)
    tasks = int(runs.task.max())
    size = max(2.6, 0.55 * tasks)
    figure = Figure(figsize=(size * columns + 1.2, size * rows + 1.0), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, strategy in zip(axes, strategies, strict=False):
        mean = runs[runs.strategy == strategy].pivot_table(index="after_task", columns="task", values="accuracy")
        sns.heatmap(
            100 * mean, ax=axis, vmin=0, vmax=100, annot=tasks <= 10, fmt=".0f", cmap="viridis", square=True, cbar=False
        )
        axis.set(title=strategy, xlabel="accuracy (%) on task", ylabel="after task")
    for axis in axes[len(strategies) :]:
        axis.set_visible(False)
    figure.suptitle(title)
    return figure


def _per_run(cells: Sequence[Cell], metric: Callable[[Matrix], list[float]]) -> pd.DataFrame:
    rows = [
        (grammar.family(cell.spec.strategy), cell.name, r.spec.seed, after, 100 * value)
        for cell in cells
        for r in cell.done
        for after, value in enumerate(metric(r.accuracy), 1)
    ]
    return pd.DataFrame(rows, columns=["family", "strategy", "seed", "x", "value"])


def _curves(curves: pd.DataFrame, label: str, title: str, along: str = "Tasks learned") -> Figure:
    """One curve a strategy; with more than a panel can hold, one panel a family."""
    trials = int(curves.groupby("strategy").seed.nunique().max())
    methods = curves[~curves.family.isin(BOUNDS)]
    bounds = curves[curves.family.isin(BOUNDS)] if len(methods) else curves[:0]
    curves = methods if len(methods) else curves
    panels = (
        list(curves.groupby("family", sort=False)) if curves.strategy.nunique() > CURVES_A_PANEL else [("", curves)]
    )
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(6.4 if columns == 1 else 4.4 * columns, 4.4 * rows), layout="constrained")
    with sns.axes_style("whitegrid"):
        axes = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for axis, (name, part) in zip(axes, panels, strict=False):
        _strategies(axis, part, band=trials > 1)
        _bounds(axis, bounds)
        axis.set(xlabel=along, ylabel=label, title=name or title)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend(title=None, fontsize="small" if len(panels) > 1 else None)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    if len(panels) > 1:
        figure.suptitle(title)
    figure.supxlabel(_band(trials), fontsize="small")
    return figure


def _strategies(axis: Axes, part: pd.DataFrame, *, band: bool) -> None:
    count = part.strategy.nunique()
    colours = sns.color_palette("colorblind" if count <= 10 else "husl", count)
    mean_lines(axis, part, "strategy", colours, band=band)


def _bounds(axis: Axes, part: pd.DataFrame) -> None:
    """Draw the means of bounds as grey lines."""
    styles = cycle(((5, 2), (1, 1.5), (5, 1.5, 1, 1.5)))
    for dashes, (name, own) in zip(styles, part.groupby("strategy", sort=False), strict=False):
        mean = own.groupby("x").value.mean()
        axis.plot(mean.index, mean, color="0.45", dashes=dashes, lw=1.4, label=name)


def _band(trials: int) -> str:
    """What lines and bands are; 0: of several trials, without bands."""
    if not trials:
        return "lines: means over trials"
    if trials == 1:
        return "one trial, no band"
    return "lines: means; bands: 95 % confidence intervals (t) over trials"


@dataclass(frozen=True)
class Drawing:
    """A figure: its file's name, its caption on a page, whether some cells have what it shows, and how it is drawn.

    ``draw`` takes the cells and a title. ``on_page`` is False where the page has a table of the same, ``in_run`` where
    the main command leaves it to the page.
    """

    name: str
    caption: str
    applies: Callable[[Sequence[Cell]], bool]
    draw: Callable[[Sequence[Cell], str], Figure]
    in_run: bool = True
    on_page: bool = True


FIGURES = (
    Drawing("base_task", "Accuracy on the first task", over_tasks, base_task_curve),
    Drawing("mean_accuracy", "Mean accuracy over the tasks learned so far", over_tasks, mean_accuracy_curve),
    Drawing("accuracy_matrix", "Accuracy on every task", over_tasks, accuracy_matrices, on_page=False),
    Drawing("frontier", "What each method keeps, against how well it learns", several_settings, frontier),
    Drawing("epoch_curves", "After every epoch", over_epochs, epoch_curves),
    Drawing("trace", "Accuracy on the first task while training", was_traced, trace_curve),
    Drawing("loss", "Learning curves: training loss", has_losses, loss_curve, in_run=False),
)
