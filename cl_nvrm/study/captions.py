"""Captions: what stands above and below a study's figure."""

from collections import Counter
from collections.abc import Collection, Iterable
from textwrap import fill

from matplotlib.figure import Figure

from cl_nvrm.spec import RunResult

INTERVALS = "means and 95 % confidence intervals (t) over seeds"


def caption(figure: Figure, title: str, counts: Collection[int], said: str = INTERVALS) -> Figure:
    """Put a title above, and below what lines and bands are and of how many runs each; return the figure."""
    figure.suptitle(fill(title, int(10 * figure.get_figwidth())), fontsize="medium")
    least, most = min(counts, default=0), max(counts, default=0)
    figure.supxlabel(f"{said}, n = {least if least == most else f'{least} to {most}'}", fontsize="small")
    return figure


def runs_a_cell(results: Iterable[RunResult]) -> list[int]:
    """Return how many of the runs each cell has."""
    return list(Counter(result.spec.cell for result in results).values())
