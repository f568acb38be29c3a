"""Figures from tidy tables; nothing here reads or writes a file.

A table has one row for each trial and point: columns strategy, seed, after_task, task, accuracy (in [0, 1]; tasks
count from 1).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cl_nvrm.analysis.metrics import base_task, mean_accuracy
from cl_nvrm.analysis.stats import t_interval
from cl_nvrm.spec import RunResult, RunSpec


def table(results: Sequence[RunResult], names: Mapping[RunSpec, str]) -> pd.DataFrame:
    """Return the tidy table of the finished results; ``names`` says what to call each cell."""
    rows = [
        (names[r.spec.cell], r.spec.seed, t + 1, k + 1, value)
        for r in results
        for t, row in enumerate(r.accuracy)
        for k, value in enumerate(row)
        if r.status == "done"
    ]
    return pd.DataFrame(rows, columns=["strategy", "seed", "after_task", "task", "accuracy"])


def base_task_curve(runs: pd.DataFrame, title: str) -> Figure:
    """Draw the accuracy on the first task after each task, one curve a strategy."""
    return _curves(_per_run(runs, base_task), "Accuracy on the first task (%)", title)


def mean_accuracy_curve(runs: pd.DataFrame, title: str) -> Figure:
    """Draw the mean accuracy over the tasks learned so far after each task, one curve a strategy."""
    return _curves(_per_run(runs, mean_accuracy), "Mean accuracy, learned tasks (%)", title)


def accuracy_matrices(runs: pd.DataFrame, title: str) -> Figure:
    """Draw, for each strategy, the mean accuracy on every task (column) after every task (row) as a heat map."""
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


def _per_run(runs: pd.DataFrame, metric) -> pd.DataFrame:  # type: ignore[no-untyped-def]
    parts = []
    for (strategy, seed), run in runs.groupby(["strategy", "seed"], sort=False):
        values = metric(run.pivot_table(index="after_task", columns="task", values="accuracy").to_numpy().tolist())
        after = range(1, len(values) + 1)
        parts.append(pd.DataFrame({"strategy": strategy, "seed": seed, "after_task": after, "percent": values}))
    curves = pd.concat(parts, ignore_index=True)
    curves["percent"] *= 100
    return curves


def _curves(curves: pd.DataFrame, label: str, title: str) -> Figure:
    trials = int(curves.groupby("strategy").seed.nunique().max())
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    with sns.axes_style("whitegrid"):
        axis = figure.subplots()
    sns.lineplot(
        curves,
        x="after_task",
        y="percent",
        hue="strategy",
        style="strategy",
        markers=True,
        dashes=False,
        errorbar=(lambda values: t_interval(np.asarray(values).tolist())) if trials > 1 else None,
        palette="colorblind",
        ax=axis,
    )
    axis.set(xlabel="Tasks learned", ylabel=label, title=title)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(title=None)
    band = "lines: means; bands: 95 % confidence intervals (t) over trials" if trials > 1 else "one trial, no band"
    figure.supxlabel(band, fontsize="small")
    return figure
