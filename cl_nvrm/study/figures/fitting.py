"""The figures of randomisation tests, after Zhang et al., ICLR 2017, figure 1."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cl_nvrm.analysis.comparisons import Cell
from cl_nvrm.analysis.time_to_fit import time_to_fit
from cl_nvrm.report.figures import CURVES_A_PANEL, finished
from cl_nvrm.report.lines import mean_lines
from cl_nvrm.spec import RunResult, grammar
from cl_nvrm.spec.curves import TEST, TRAINING
from cl_nvrm.study.figures.captions import INTERVALS, caption

Results = Sequence[RunResult]
LEVEL = 0.999  # of 60,000 samples, sixty may be left; the last of them take long and say little
COLOURS = sns.color_palette("colorblind")  # ten; what comes after them is dashed
HEADINGS = {TRAINING: "Training accuracy, given labels (%)", TEST: "Test accuracy (%)"}


def curves(cells: Sequence[Cell], title: str) -> Figure:
    """Draw training and test accuracy after every epoch, a line a cell; its name says when it has fitted 99.9 %.

    Lines are means over seeds, bands 95 % confidence intervals (t). The epoch is the mean over the seeds that came to
    it, and the name counts them where some did not. Runs that recorded nothing are left out.
    """
    recorded = {cell.name: [r for r in cell.done if r.curves.get(TRAINING)] for cell in cells}
    runs = {f"{name}: {_fitted(of)}": of for name, of in recorded.items() if of}
    counts = [len(of) for of in runs.values()]
    band = max(counts, default=0) > 1 and len(runs) <= CURVES_A_PANEL  # more of them hide each other
    figure = Figure(figsize=(9.6, 4.0 + 0.22 * len(runs)), layout="constrained")
    with sns.axes_style("whitegrid"):
        axes = list(figure.subplots(1, len(HEADINGS)))
    for axis, (curve, heading) in zip(axes, HEADINGS.items(), strict=True):
        _draw(axis, runs, curve, band=band)
        highest = max((max(r.curves.get(curve, (0.0,))) for of in runs.values() for r in of), default=1.0)
        axis.set(xlabel="Epoch", ylabel=heading, ylim=(0, min(103, 120 * highest)))
    handles, lines = axes[0].get_legend_handles_labels()
    for axis in axes:
        if axis.get_legend() is not None:  # below, since the names are long
            axis.get_legend().remove()
    if lines:
        figure.legend(handles, lines, loc="outside lower center", fontsize="small", frameon=False)
    return caption(figure, title, counts, INTERVALS if band else "means over seeds", legend_below=True)


def shares(cells: Sequence[Cell], title: str) -> Figure:
    """Draw final test error and epochs until 99.9 % are fitted against the share of labels drawn anew.

    Points are runs, lines their means; a run that has not fitted has no point on the right.
    """
    rows = [
        (float(grammar.parse("benchmarks", r.spec.benchmark).settings["p"]), 100 * (1 - r.accuracy[-1][0]),
         time_to_fit(r, LEVEL).epoch)
        for r in finished(cells)
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["p", "Final test error (%)", "Epochs until 99.9 % are fitted"]).astype(float)
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    with sns.axes_style("whitegrid"):
        axes = list(figure.subplots(1, 2))
    for axis, name in zip(axes, table.columns[1:], strict=True):
        means = table.groupby("p")[name].mean()
        axis.plot(means.index, means, color=sns.color_palette("colorblind")[0])
        axis.plot(table.p, table[name], "o", color=sns.color_palette("colorblind")[0], ms=5, alpha=0.6)
        axis.set(xlabel="Share of labels drawn anew", ylabel=name, ylim=(0, None))
    return caption(figure, title, table.groupby("p").size().tolist(), "points are seeds, lines their means")


def _draw(axis: Axes, runs: Mapping[str, Results], curve: str, *, band: bool) -> None:
    rows = [
        (line, epoch, 100 * value)
        for line, of in runs.items()
        for r in of
        for epoch, value in enumerate(r.curves.get(curve, ()), 1)
    ]
    table = pd.DataFrame(rows, columns=["line", "x", "value"])
    colours = [COLOURS[number % len(COLOURS)] for number in range(len(runs))] if rows else None
    dashes = ["" if number < len(COLOURS) else (3, 1.5) for number in range(len(runs))]
    mean_lines(axis, table, "line", colours, dashes, band=band)


def _fitted(results: Results) -> str:
    times = [time_to_fit(r, LEVEL).epoch for r in results]
    reached = [epoch for epoch in times if epoch is not None]
    if not reached:
        return "not fitted"
    some = "" if len(reached) == len(times) else f" ({len(reached)} of {len(times)} seeds)"
    return f"fitted at epoch {np.mean(reached):.3g}{some}"
