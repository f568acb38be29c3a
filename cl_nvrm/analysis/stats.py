"""Statistics over trials: intervals, and comparisons paired by seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from cl_nvrm.analysis.permutation import FEWEST_EXACT, sign_flip_p

Interval = tuple[float, float]
FEWEST = 5  # below, no test is worth its stars
RESAMPLES = 9999
ROUNDING = 1e-12  # of the largest value: differences of equal accuracies are off by that
SAFEGUARD = 0.2  # beyond each end of the interval of an effect that trials are planned for


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample standard deviation (n - 1); the latter is NaN for fewer than two values.

    >>> mean_sd([1.0, 2.0, 3.0])
    (2.0, 1.0)
    """
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return Student's confidence interval of the mean; both ends are the mean itself for fewer than two values.

    >>> [round(end, 3) for end in t_interval([1.0, 2.0, 3.0])]  # 2 ± 4.303 / √3
    [-0.484, 4.484]
    """
    mean, sd = mean_sd(values)
    if len(values) < 2:
        return mean, mean
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * sd / math.sqrt(len(values))
    return mean - half, mean + half


def bootstrap_interval(values: Sequence[float], level: float = 0.95, seed: int = 0) -> Interval | None:
    """Return the studentised bootstrap confidence interval of the mean; None for fewer than five values, or many ties.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 12.5. Of the bootstrap's intervals the one
    that still covers as often as it says with five trials (widened percentiles do in 91 %), and closer than Student's
    with skewed values. The same values always give the same interval.
    """
    n = len(values)
    if n < FEWEST:
        return None
    sample = np.asarray(values, dtype=float)
    rounding = ROUNDING * float(np.abs(sample).max())
    if np.ptp(sample) <= rounding:
        return values[0], values[0]
    mean, spread = sample.mean(), sample.std(ddof=1) / math.sqrt(n)
    drawn = sample[_resamples(n, seed)]
    means = drawn.mean(axis=1)
    squares = (drawn - means[:, None]) ** 2
    gaps, deviations = means - mean, np.sqrt(squares.sum(axis=1) / (n - 1))
    spreads = deviations / math.sqrt(n)
    # A resample of one value alone has no spread: its ratio lies beyond all others. Only where values deviate little
    # can that be, as the largest less the smallest is more than the deviation.
    constant = deviations <= rounding
    constant[constant] = np.ptp(drawn[constant], axis=1) <= rounding
    ratios = np.where(constant, np.copysign(np.inf, gaps), gaps / np.where(constant, 1, spreads))
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    ends = float(mean - high * spread), float(mean - low * spread)
    return ends if all(map(math.isfinite, ends)) else None  # too many resamples of one value alone


@lru_cache(maxsize=4)
def _resamples(n: int, seed: int) -> NDArray[np.int64]:
    """The places of the values of each resample: the same for all samples of a size, and half of the time they take."""
    return np.random.default_rng(seed).choice(n, size=(RESAMPLES, n))


def equivalence_p(differences: Sequence[float], margin: float) -> float:
    """Return the p of two one-sided t tests (TOST): small if the mean difference lies within ± ``margin``.

    Below 0.05 if and only if the 90 % interval (t) lies within the margin. 1 for fewer than two values (Schuirmann,
    Journal of Pharmacokinetics and Biopharmaceutics 15, 1987). ValueError if the margin is not above 0.

    >>> equivalence_p([0.1, -0.1, 0.2, -0.2, 0.0], margin=1.0) < 0.001
    True
    """
    if not margin > 0:
        raise ValueError(f"a margin must be above 0, got {margin}")
    mean, sd = mean_sd(differences)
    n = len(differences)
    if n < 2:
        return 1.0
    if sd == 0:
        return 0.0 if abs(mean) < margin else 1.0
    return float(stats.t.sf((margin - abs(mean)) / (sd / math.sqrt(n)), n - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p values, in the order given (Scandinavian Journal of Statistics 6(2), 1979).

    For p values of tests that share nothing; those of one set of seeds are adjusted by ``permutation.max_t_p``.

    >>> holm([0.5, 0.125])  # the smaller one counts twice
    [0.5, 0.25]
    """
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def seeds_needed(effect: float, power: float = 0.8, level: float = 0.05) -> int | None:
    """Return how many paired trials a two-sided t test needs to see a standardised difference with that power.

    None if 10,000 would not do. Cohen, Statistical Power Analysis, 1988, chapter 2, with the noncentral t.

    >>> seeds_needed(0.5)
    34
    """
    if not math.isfinite(effect):
        return 2 if math.isinf(effect) else None

    def enough(n: int) -> bool:
        # The far tail, a significant difference of the wrong sign, is left out: at this power it is below 1e-6.
        return bool(stats.nct.sf(stats.t.ppf(1 - level / 2, n - 1), n - 1, abs(effect) * math.sqrt(n)) >= power)

    low, high = 1, 2
    while not enough(high):
        if high >= 10_000:
            return None
        low, high = high, min(2 * high, 10_000)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def safeguard_effect(effect: float, n: int) -> float:
    """Return the lower end of the 60 % interval of a standardised difference seen in ``n`` pairs; 0 if it reaches that.

    What to plan further trials for, since the effect seen is as often above the true one as below it, and more often
    where it was the reason to look (Perugini, Gallucci and Costantini, Perspectives on Psychological Science 9, 2014).

    >>> round(safeguard_effect(1.0, n=10), 2), safeguard_effect(0.1, n=10)
    (0.64, 0.0)
    """
    seen = abs(effect) * math.sqrt(n)

    def too_high(true: float) -> float:
        return float(stats.nct.sf(seen, n - 1, true * math.sqrt(n))) - SAFEGUARD

    if not math.isfinite(seen) or too_high(0.0) >= 0:
        return 0.0 if math.isfinite(seen) else math.inf
    return float(optimize.brentq(too_high, 0.0, abs(effect), xtol=1e-6))


@dataclass(frozen=True)
class Comparison:
    """A paired difference over ``n`` seeds: mean, 95 % intervals, exact p, effect size, seeds needed to see it.

    ``effect`` is the mean difference over its standard deviation, with Hedges' correction for small samples, from three
    seeds on. ``seeds_needed`` are for a single test of the smallest effect that these seeds leave likely, and at least
    the six the exact one needs; None, too, if they leave none at all likely. ``values`` are the differences, by seed.
    """

    n: int
    mean: float
    t: Interval
    bootstrap: Interval | None
    p: float
    effect: float | None
    seeds_needed: int | None
    values: dict[int, float]


def compare(first: dict[int, float], second: dict[int, float]) -> Comparison | None:
    """Compare two strategies' values by seed, first minus second, on the seeds both have; None if there is none.

    >>> found = compare({0: 0.75, 1: 1.0, 2: 0.5}, {0: 0.5, 1: 0.5})
    >>> found.n, found.mean, found.p
    (2, 0.375, 0.5)
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    differences = [first[seed] - second[seed] for seed in seeds]
    n = len(differences)
    mean, sd = mean_sd(differences)
    raw = mean / sd if n > 2 and sd > 1e-12 * abs(mean) else None
    needed = None if raw is None else seeds_needed(safeguard_effect(raw, n))
    return Comparison(
        n=n,
        mean=mean,
        t=t_interval(differences),
        bootstrap=bootstrap_interval(differences),
        p=sign_flip_p(differences),
        effect=None if raw is None else raw * (1 - 3 / (4 * (n - 1) - 1)),
        seeds_needed=None if needed is None else max(FEWEST_EXACT, needed),
        values=dict(zip(seeds, differences, strict=True)),
    )


def stars(p: float, n: int) -> str:
    """Return *** below 0.001, ** below 0.01, * below 0.05, and nothing for fewer than five trials.

    >>> stars(0.02, n=10), stars(0.02, n=4)
    ('*', '')
    """
    return "" if n < FEWEST else "*" * sum(p < bound for bound in (0.05, 0.01, 0.001))
