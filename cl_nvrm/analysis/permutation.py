"""Permutation tests of paired differences: random signs, one comparison or many at once."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

FEWEST_EXACT = 6  # seeds with which the exact test can reach 0.05
EXACT_UP_TO = 16
RANDOM_SIGNS = 9999
_AT_ONCE = 4096  # rows of signs
_ROUNDING = 1e-12  # of the sum of all differences, which is what a sum of some of them may be off by


def sign_flip_p(differences: Sequence[float]) -> float:
    """Return the two-sided p of the paired permutation test: how often random signs give a mean as far from 0.

    Fisher, The Design of Experiments, 1935, section 21. Exact, over all 2ⁿ signs, up to n = 16; with 9,999 random ones
    beyond. Its smallest value is 2^(1-n), so fewer than six trials cannot reach 0.05. Sums that differ by rounding
    alone count as equal: there are many of these where accuracies differ by a few images. ValueError if a difference is
    no finite number.

    >>> sign_flip_p([0.1, 0.2, 0.3, 0.4])  # 2 of the 16 signs, all plus and all minus
    0.125
    >>> sign_flip_p([1.0, -1.0])
    1.0
    """
    (p,) = max_t_p([dict(enumerate(differences))])
    return p


def max_t_p(rows: Sequence[Mapping[int, float]]) -> list[float]:
    """Return the p of each row of differences by seed, adjusted for all rows by the same random signs of seeds.

    Step-down max-T (Westfall and Young, Resampling-Based Multiple Testing, 1993, algorithm 2.8): the chance that any
    row is wrongly found is below 0.05 if all p below that are reported. Rows that say the same thing twice cost
    nothing, unlike after Holm or Bonferroni, and with n seeds the smallest p stays 2^(1-n) however many rows there are.
    The statistic is the sum of a row's differences over the root of the sum of their squares, a monotone function of
    Student's t. A row without seeds has p = 1. ValueError if a difference is no finite number.

    >>> max_t_p([{0: 1.0, 1: 2.0, 2: 3.0}, {0: 2.0, 1: 4.0, 2: 6.0}])  # the same row twice: not adjusted
    [0.25, 0.25]
    """
    seeds = sorted(set().union(*rows))
    if not all(np.isfinite(list(row.values())).all() for row in rows):
        raise ValueError(f"differences must be finite numbers, got {[list(row.values()) for row in rows]}")
    if not seeds:
        return [1.0] * len(rows)
    values = np.array([[row.get(seed, 0.0) for row in rows] for seed in seeds])
    norms = np.sqrt((values**2).sum(axis=0))
    values = values / np.where(norms > 0, norms, 1.0)
    seen = np.abs(values.sum(axis=0)) - _ROUNDING * np.abs(values).sum(axis=0)
    order = np.argsort(-seen, kind="stable")
    counts, drawn = np.zeros(len(rows), dtype=int), 0
    for signs in _signs(len(seeds)):
        # In order of what was seen: the largest of a row and all that follow it.
        largest = np.maximum.accumulate(np.abs(signs @ values)[:, order[::-1]], axis=1)[:, ::-1]
        counts += (largest >= seen[order]).sum(axis=0)
        drawn += len(signs)
    extra = int(len(seeds) > EXACT_UP_TO)  # the observed signs are one of those there could have been
    adjusted = np.empty(len(rows))
    adjusted[order] = np.maximum.accumulate((counts + extra) / (drawn + extra))
    return [float(p) for p in adjusted]


def _signs(n: int) -> Iterator[NDArray[np.float64]]:
    """All signs of n differences, or random ones, some rows at a time."""
    if n <= EXACT_UP_TO:
        for start in range(0, 2**n, _AT_ONCE):
            rows = np.arange(start, min(start + _AT_ONCE, 2**n))
            yield np.asarray(1 - 2 * ((rows[:, None] >> np.arange(n)) & 1), dtype=np.float64)
        return
    generator = np.random.default_rng(0)
    for start in range(0, RANDOM_SIGNS, _AT_ONCE):
        yield generator.choice([-1.0, 1.0], size=(min(_AT_ONCE, RANDOM_SIGNS - start), n))
