"""The figure of a target: published numbers and ours, a row a line."""

import math

from matplotlib.figure import Figure
from scipy.stats import t

from cl_nvrm.analysis.verdict import CONFIDENCE, sample
from cl_nvrm.reproduce.outcome import Outcome

COLOURS = {"agrees": "#0173b2", "differs": "#d55e00", "too few seeds": "#949494"}  # of seaborn's colourblind palette


def figure(found: Outcome) -> Figure:
    """Draw means with 99 % intervals (t): published ones in grey, ours in the colour of the verdict."""
    rows = [each for each in found.rows if each.verdict]
    drawn = Figure(figsize=(8, 0.28 * len(rows) + 1.4), layout="constrained")
    axis = drawn.subplots()
    for place, each in enumerate(rows):
        theirs = each.published
        axis.errorbar(
            theirs.mean, place - 0.17, xerr=_half(theirs.deviation, theirs.runs), fmt="|", color="0.45", ms=9, lw=1.5
        )
        own = sample(each.values)
        half = _half(own.deviation, own.runs)
        axis.errorbar(own.mean, place + 0.17, xerr=half, fmt="o", color=COLOURS[each.word], ms=4, lw=1.5)
    axis.set_yticks(range(len(rows)), [each.row.name for each in rows], fontsize=8)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.grid(axis="x", color="0.9")
    axis.set_axisbelow(True)
    axis.set_xlabel("%")
    for word, colour in COLOURS.items():
        axis.plot([], [], "o", color=colour, ms=4, label=f"ours, {word}")
    axis.plot([], [], "|", color="0.45", ms=9, label="published")
    drawn.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    axis.set_title(f"{found.target.about}\n{found.target.source}; 99 % intervals", fontsize=9)
    return drawn


def _half(deviation: float | None, count: int) -> float:
    if deviation is None or count < 2:
        return 0.0
    return float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * deviation / math.sqrt(count)
