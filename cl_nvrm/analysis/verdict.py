"""Verdict: whether our runs agree with a published mean, by a rule that is fixed before they are made.

The difference has a Welch interval of 99 %, since two means with deviations of their own are compared. It *differs*,
whichever way, if the interval leaves out 0 and the difference is larger than the margin: 1 point, or 2 where a single
run was published. Otherwise there are *too few seeds* to say, if the interval reaches further than the margin or twice
the published deviation to either side; otherwise it *agrees*. A result that is too good differs as well: a head that
leaks which task it is, or test images in training, make such results.

A single published run is taken to have the deviation of ours. Where ours is a single one, too, only the margin counts.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Word = Literal["agrees", "differs", "too few seeds"]
CONFIDENCE = 0.99
MARGIN, MARGIN_OF_ONE_RUN = 1.0, 2.0  # percentage points
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Published:
    """A mean in percent over ``runs`` runs; ``deviation`` is their standard deviation, None where it is not known."""

    mean: float
    deviation: float | None
    runs: int

    @property
    def margin(self) -> float:
        """The difference in points that does not count."""
        return MARGIN if self.runs > 1 else MARGIN_OF_ONE_RUN

    @property
    def reach(self) -> float:
        """How far the interval may reach to either side."""
        return max(self.margin, 2 * (self.deviation or 0.0))


@dataclass(frozen=True)
class Verdict:
    """What came of a comparison, in points: ours minus theirs, its interval, and how many seeds would do."""

    word: Word
    difference: float
    low: float
    high: float
    seeds_needed: int | None = None


def compared(ours: Sequence[float], published: Published) -> Verdict:
    """Return the verdict on our values, in percent, one a seed.

    >>> compared([97.5, 97.9, 97.7, 97.4, 98.1], Published(97.7, 0.81, 10)).word
    'agrees'
    """
    difference = statistics.fmean(ours) - published.mean
    if len(ours) < 2:
        inside = published.runs == 1 and abs(difference) <= published.margin
        word: Word = "agrees" if inside else "differs" if published.runs == 1 else "too few seeds"
        return Verdict(word, difference, math.nan, math.nan, _needed(None, published) if word[0] == "t" else None)
    deviation = statistics.stdev(ours)
    half = _half_width(deviation, len(ours), published)
    low, high = difference - half, difference + half
    if not low <= 0 <= high and abs(difference) > published.margin:
        return Verdict("differs", difference, low, high)
    if half > published.reach:
        return Verdict("too few seeds", difference, low, high, _needed(deviation, published))
    return Verdict("agrees", difference, low, high)


def _half_width(deviation: float, runs: int, published: Published) -> float:
    """Of the interval of the difference of two means with deviations of their own (Welch)."""
    from scipy.stats import t

    theirs = deviation if published.deviation is None else published.deviation
    own, other = deviation**2 / runs, theirs**2 / published.runs
    if own + other == 0:
        return 0.0
    freedom = own**2 / (runs - 1)
    if published.runs > 1:
        freedom += other**2 / (published.runs - 1)
        freedom = (own + other) ** 2 / freedom
    else:
        freedom = runs - 1  # the deviation is ours alone
    return float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(own + other)


def _needed(deviation: float | None, published: Published) -> int | None:
    """How many seeds of ours make the interval short enough; None if none do, or if nothing is known."""
    assumed = published.deviation if deviation is None else deviation
    if assumed is None:
        return None
    fits = (n for n in range(2, MOST_SEEDS) if _half_width(assumed, n, published) <= published.reach)
    return next(fits, None)
