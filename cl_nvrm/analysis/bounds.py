"""Bounds: which strategies are bounds of others, and how far a method gets from plain training to joint training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy import stats

from cl_nvrm.analysis.comparisons import Cell
from cl_nvrm.analysis.stats import Interval
from cl_nvrm.spec import RunSpec, grammar

LOWER, UPPER = "naive", "joint"
BOUNDS = ("joint", "cumulative", "scratch", "randumb")  # what figures show as lines to look up to, not as methods


@dataclass(frozen=True)
class Share:
    """How far a cell gets in a metric: 0 is plain training, 1 joint training; with a 95 % interval (Fieller).

    ``upper`` is the name of the joint training that is meant: there may be several, with other numbers of steps.

    ``value`` is None, with a ``reason``, where joint training is not above plain training; the interval, where there is
    a single seed, or where the way cannot be told from none. ``n`` is the number of common seeds.
    """

    name: str
    upper: str
    value: float | None
    interval: Interval | None
    n: int
    reason: str = ""


def is_bound(cell: Cell) -> bool:
    """Return whether a cell is a bound of others, by itself."""
    return grammar.family(cell.spec.strategy) in BOUNDS


def shares(of: Sequence[Cell], metric: str = "ACC") -> list[Share]:
    """Return the share of every method that was run beside ``naive`` and ``joint``, with the same other settings."""
    ends: dict[tuple[str, RunSpec], list[Cell]] = {}
    for cell in of:
        if (name := grammar.family(cell.spec.strategy)) in (LOWER, UPPER):
            ends.setdefault((name, _other_settings(cell)), []).append(cell)
    found = []
    for cell in of:
        if is_bound(cell) or grammar.family(cell.spec.strategy) == LOWER:
            continue
        beside = (ends.get((name, _other_settings(cell)), []) for name in (LOWER, UPPER))
        for plain, joint in product(*beside):
            low, own, high = (c.judged(metric) if c.done else c.values(metric) for c in (plain, cell, joint))
            seeds = sorted(low.keys() & own.keys() & high.keys())
            if seeds:
                gained = [own[seed] - low[seed] for seed in seeds]
                way = [high[seed] - low[seed] for seed in seeds]
                found.append(_share(cell.name, joint.name, gained, way))
    return found


def _other_settings(cell: Cell) -> RunSpec:
    return replace(cell.spec, strategy="", chosen="")


def _share(name: str, upper: str, gained: Sequence[float], way: Sequence[float]) -> Share:
    """The ratio of two paired means."""
    n, whole = len(way), float(np.mean(way))
    if whole <= 0:
        return Share(name, upper, None, None, n, "joint training is not above plain training")
    value = float(np.mean(gained)) / whole
    return Share(name, upper, value, ratio_interval(gained, way) if n > 1 else None, n)


def ratio_interval(above: Sequence[float], below: Sequence[float], level: float = 0.95) -> Interval | None:
    """Return Fieller's interval of mean(above) / mean(below), paired; None where it has no ends.

    It holds every ratio r for which the mean of above - r · below is not significantly different from 0 (Fieller,
    "Some problems in interval estimation", J. R. Stat. Soc. B 16, 1954).

    >>> ratio_interval([1.0, 1.0], [2.0, 2.0])
    (0.5, 0.5)
    """
    n = len(above)
    t = float(stats.t.ppf((1 + level) / 2, n - 1))
    (aa, ab), (_, bb) = np.cov(above, below) * t**2 / n
    a, b = float(np.mean(above)), float(np.mean(below))
    square = b * b - bb
    if square <= 0:
        return None
    middle, root = (a * b - ab) / square, max(0.0, (a * b - ab) ** 2 - square * (a * a - aa))
    half = math.sqrt(root) / square
    return float(middle - half), float(middle + half)
