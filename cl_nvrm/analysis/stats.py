"""Statistics over trials."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample standard deviation (n - 1); the latter is NaN for fewer than two values."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Return Student's confidence interval of the mean; both ends are the mean itself for fewer than two values."""
    mean, sd = mean_sd(values)
    if len(values) < 2:
        return mean, mean
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * sd / math.sqrt(len(values))
    return mean - half, mean + half
