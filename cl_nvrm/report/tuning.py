"""The figure of a search: what a budget of trials buys."""

from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure


def best_so_far(curves: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Draw the best accuracy on held-out images after each trial of a search: what a budget buys.

    ``curves`` has one for each search, by strategy; lines are means over searches, bands reach from worst to best.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    with sns.axes_style("whitegrid"):
        axis = figure.subplots()
    for (name, searches), colour in zip(curves.items(), sns.color_palette("colorblind", len(curves)), strict=True):
        rows = 100 * np.array([search[: min(map(len, searches))] for search in searches])
        trials = np.arange(1, rows.shape[1] + 1)
        axis.plot(trials, rows.mean(axis=0), color=colour, label=name, drawstyle="steps-post")
        axis.fill_between(trials, rows.min(axis=0), rows.max(axis=0), color=colour, alpha=0.15, lw=0, step="post")
    axis.set(xlabel="trials of a search", ylabel="best ACC so far, held-out images (%)")
    axis.legend(fontsize="small")
    count = max(map(len, curves.values()))
    about = f"lines: means of {count} searches; bands: worst to best" if count > 1 else "one search a strategy"
    figure.supxlabel(about, fontsize="small")
    return figure
