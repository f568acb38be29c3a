"""Captions: what stands above and below a study's figure."""

from collections.abc import Collection
from textwrap import fill

from matplotlib.figure import Figure

INTERVALS = "means and 95 % confidence intervals (t) over seeds"


def caption(
    figure: Figure, title: str, counts: Collection[int], said: str = INTERVALS, *, legend_below: bool = False
) -> Figure:
    """Put a title above, and below what lines and bands are and of how many runs each; return the figure.

    Where a legend is below, all of it is above.
    """
    title = fill(title, int(10 * figure.get_figwidth()))
    least, most = min(counts, default=0), max(counts, default=0)
    about = f"{said}, n = {least if least == most else f'{least} to {most}'}"
    figure.suptitle(f"{title}\n{about}" if legend_below else title, fontsize="medium")
    if not legend_below:
        figure.supxlabel(about, fontsize="small")
    return figure
