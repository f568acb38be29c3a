"""Verdict: whether our runs agree with a published mean, by a rule that was fixed before they were made.

The difference has a Welch interval of 99 %, since two means with deviations of their own are compared. It *differs*,
whichever way, if the interval leaves out 0 and the difference is larger than the margin: 1 point, or 2 where a single
run was published. Otherwise there are *too few seeds* to say, if there are fewer than three or the interval reaches
further than the margin or twice the published deviation to either side; otherwise it *agrees*. A result that is too
good differs as well: a head that leaks which task it is, or test images in training, make such results.

A single published run is taken to have the deviation of ours, and the interval may then reach three of these, since
no number of seeds makes it shorter than 2.6. Where one was published and ours are fewer than three, only the margin
counts.

Two points came after the first runs, and changed no verdict on these: at least three seeds, and how far the interval
may reach where a single run was published.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

Word = Literal["agrees", "differs", "too few seeds"]
CONFIDENCE = 0.99
MARGIN, MARGIN_OF_ONE_RUN = 1.0, 2.0  # percentage points
FEWEST = 3  # of two, the interval leaves out 0 in four cases of a hundred in which nothing differs
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


@dataclass(frozen=True)
class Verdict:
    """What came of a comparison, in points: ours minus theirs, its interval, and how many seeds would do.

    ``close`` says that the whole interval lies within the margin: the two means are equal to that.
    """

    word: Word
    difference: float
    low: float
    high: float
    seeds_needed: int | None = None
    close: bool = False


def sample(values: Sequence[float]) -> Published:
    """Return the mean and deviation of runs in the form of published ones.

    ValueError if there are none, or one is no finite number.
    """
    if not all(map(math.isfinite, values)):
        raise ValueError(f"values must be finite numbers, got {values}")
    return Published(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def compared(ours: Sequence[float], published: Published) -> Verdict:
    """Return the verdict on our values, in percent, one a seed.

    >>> compared([97.5, 97.9, 97.7, 97.4, 98.1], Published(97.7, 0.81, 10)).word
    'agrees'
    """
    own = sample(ours)
    difference = own.mean - published.mean
    half = welch(own, _theirs(published, own.deviation))
    low, high = difference - half, difference + half
    if len(ours) < FEWEST and published.runs == 1:
        return Verdict("agrees" if abs(difference) <= published.margin else "differs", difference, low, high)
    if len(ours) < FEWEST:
        return Verdict("too few seeds", difference, low, high, _needed(own.deviation, published))
    if not low <= 0 <= high and abs(difference) > published.margin:
        return Verdict("differs", difference, low, high)
    close = -published.margin <= low and high <= published.margin
    if half > reach(published, own.deviation):
        return Verdict("too few seeds", difference, low, high, _needed(own.deviation, published))
    return Verdict("agrees", difference, low, high, close=close)


def reach(published: Published, own_deviation: float | None) -> float:
    """Return how far the interval may reach to either side, in points."""
    if published.runs == 1:
        return max(published.margin, 3 * (own_deviation or 0.0))
    return max(published.margin, 2 * (published.deviation or 0.0))


def welch(one: Published, other: Published) -> float:
    """Return half the width of the 99 % interval of the difference of two means with deviations of their own.

    NaN where a deviation is not known. Of a single run the deviation is taken to be the other's, so that it has no
    degrees of freedom of its own.
    """
    from scipy.stats import t

    if one.deviation is None or other.deviation is None:
        return math.nan
    parts = [(each.deviation**2 / each.runs, each.runs - 1) for each in (one, other) if each.deviation is not None]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return 0.0
    free = [(part, freedom) for part, freedom in parts if freedom]
    if not free:
        return math.nan
    if len(free) == 1:
        freedom: float = free[0][1]
    else:
        freedom = variance**2 / sum(part**2 / freedom for part, freedom in free)
    return float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(variance)


def _theirs(published: Published, own_deviation: float | None) -> Published:
    """The published mean with a deviation: that of ours, where a single run or none was published."""
    single = published.runs == 1 or published.deviation is None
    return replace(published, deviation=own_deviation) if single else published


def _needed(deviation: float | None, published: Published) -> int | None:
    """How many seeds of ours make the interval short enough; None if none do, or if nothing is known."""
    assumed = published.deviation if deviation is None else deviation
    if assumed is None:
        return None
    theirs, allowed = _theirs(published, assumed), reach(published, assumed)
    fits = (n for n in range(FEWEST, MOST_SEEDS) if welch(Published(0, assumed, n), theirs) <= allowed)
    return next(fits, None)
