"""Lines through means, with the band of their uncertainty."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from cl_nvrm.analysis.stats import t_interval

MARKED_POINTS = 30  # with as many places along x, or more, a line has no markers


def mean_lines(
    axis: Axes, table: pd.DataFrame, name: str, colours: Sequence[Any] | None, dashes: Any = False, *, band: bool
) -> None:
    """Draw one line for each ``name`` of a table, through the means of its column ``value`` over ``x``.

    With ``band``, the 95 % confidence intervals (t) of the means are shaded.
    """
    sns.lineplot(
        table,
        x="x",
        y="value",
        hue=name,
        style=name,
        markers=table.x.nunique() < MARKED_POINTS,
        dashes=dashes,
        errorbar=(lambda values: t_interval(np.asarray(values).tolist())) if band else None,
        palette=colours,
        ax=axis,
    )


def mean_line(
    axis: Axes, xs: Sequence[float], groups: Sequence[Sequence[float]], number: int, label: str, **style: Any
) -> None:
    """Draw the mean of each group of values over its x, with a band of 95 % confidence intervals (t).

    ``number`` decides the colour; ``style`` is the line's.
    """
    colour = sns.color_palette("colorblind")[number % 10]
    ends = np.array([t_interval(list(values)) for values in groups])
    axis.plot(xs, [float(np.mean(values)) for values in groups], color=colour, label=label, **style)
    axis.fill_between(xs, ends[:, 0], ends[:, 1], color=colour, alpha=0.15, lw=0)
