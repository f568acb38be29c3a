"""The figure of randomisation tests: training accuracy epoch by epoch, after Zhang et al., ICLR 2017, figure 1."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from cl_nvrm.analysis.fitting import time_to_fit
from cl_nvrm.analysis.metrics import TRAINING
from cl_nvrm.analysis.stats import t_interval
from cl_nvrm.figures import CURVES_A_PANEL, MARKED_POINTS
from cl_nvrm.labels import Labels
from cl_nvrm.spec import RunResult

Results = Sequence[RunResult]
LEVEL = 0.999  # of 60,000 samples, sixty may be left; the last of them take long and say little


def fitting_curves(results: Results, names: Labels, title: str) -> Figure:
    """Draw training accuracy after every epoch, a line a cell, whose name says at which epoch it has fitted 99.9 %.

    Lines are means over seeds, bands 95 % confidence intervals (t). The epoch is the mean over the seeds that came to
    it, and the name counts them where some did not. Runs that recorded nothing are left out.
    """
    shown = [r for r in results if r.status == "done" and r.curves.get(TRAINING)]
    texts = {cell: f"{names[cell]}: {_fitted(shown, cell)}" for cell in dict.fromkeys(r.spec.cell for r in shown)}
    rows = [
        (texts[r.spec.cell], epoch, 100 * value) for r in shown for epoch, value in enumerate(r.curves[TRAINING], 1)
    ]
    table = pd.DataFrame(rows, columns=["line", "x", "value"])
    counts = [sum(r.spec.cell == cell for r in shown) for cell in texts] or [0]
    band = max(counts) > 1 and len(texts) <= CURVES_A_PANEL  # more of them hide each other
    figure = Figure(figsize=(6.4, 4.0 + 0.24 * len(texts)), layout="constrained")
    with sns.axes_style("whitegrid"):
        axis = figure.subplots()
    sns.lineplot(
        table,
        x="x",
        y="value",
        hue="line",
        style="line",
        markers=table.x.nunique() < MARKED_POINTS,
        dashes=False,
        errorbar=(lambda values: t_interval(np.asarray(values).tolist())) if band else None,
        palette=sns.color_palette("colorblind" if len(texts) <= 10 else "husl", len(texts)) if rows else None,
        ax=axis,
    )
    axis.set(xlabel="Epoch", ylabel="Training accuracy, given labels (%)", title=title)
    legend = axis.get_legend()
    if legend is not None:  # below, since the names are long
        handles, lines = axis.get_legend_handles_labels()
        legend.remove()
        figure.legend(handles, lines, loc="outside lower center", fontsize="small", frameon=False)
    said = "means and 95 % confidence intervals (t)" if band else "means"
    n = str(max(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    figure.supxlabel(f"{said} over seeds, n = {n}", fontsize="small")
    return figure


def _fitted(results: Results, cell: object) -> str:
    times = [time_to_fit(r, LEVEL).epoch for r in results if r.spec.cell == cell]
    reached = [epoch for epoch in times if epoch is not None]
    if not reached:
        return "not fitted"
    some = "" if len(reached) == len(times) else f" ({len(reached)} of {len(times)} seeds)"
    return f"fitted at epoch {np.mean(reached):.3g}{some}"
