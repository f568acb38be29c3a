"""Calibration: how often our intervals cover and our stars are wrong, in simulated experiments whose truth is known.

Four kinds of data: normal; skewed (exponential); collapsing (one run in ten ends five standard deviations lower); tied
(accuracies that differ by a few images). Intervals are judged where one method alone is skewed or collapses, which is
hardest for them. Stars are judged under the hypothesis that they test, that both methods behave alike: each run of
either is as likely to collapse. ``mean`` is the harder one that both have the same mean, though only one is skewed or
collapses; no test of ten differences can hold there.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cl_nvrm.analysis.bounds import ratio_interval
from cl_nvrm.analysis.choice import Mixture, at_level
from cl_nvrm.analysis.frontier import share_and_slope
from cl_nvrm.analysis.permutation import max_t_p, sign_flip_p
from cl_nvrm.analysis.stats import Interval, bootstrap_interval, equivalence_p, t_interval

KINDS = ("normal", "skewed", "collapsing", "tied")
SEEDS = (5, 10, 30)
TRIALS = {"paper": 2000, "small": 2000, "smoke": 20}
ROWS = 12  # of a table whose rows are tested together
MARGIN = 1.0
LEVEL = 0.85  # of plasticity, between two settings
LEVEL_POINT = np.array([LEVEL, LEVEL])  # of the line that all settings lie on
ERROR = 0.01
SETTINGS = np.array([[[0.80, 0.90], [0.90, 0.80]], [[0.82, 0.88], [0.92, 0.78]]])  # of two families on one line
Array = NDArray[np.float64]
Generator = np.random.Generator


def errors(kind: str, generator: Generator, shape: tuple[int, ...]) -> Array:
    """Return what runs differ by from their method's mean, which is 0; in standard deviations, or images."""
    if kind == "skewed":
        return generator.exponential(size=shape) - 1
    if kind == "collapsing":
        collapsed = generator.random(shape) < 0.1
        return generator.normal(size=shape) - 5 * collapsed + 0.5
    values = generator.normal(size=shape)
    return np.round(values) if kind == "tied" else values


def alone(kind: str, generator: Generator, n: int) -> list[float]:
    """Return differences with mean 0 of which one method's errors are of that kind."""
    values: list[float] = errors(kind, generator, (n,)).tolist()
    return values


def alike(kind: str, generator: Generator, n: int) -> list[float]:
    """Return differences of two methods that behave alike."""
    first, second = errors(kind, generator, (2, n))
    values: list[float] = (first - second).tolist()
    return values


@dataclass(frozen=True)
class Checked:
    """What is checked: its name, whether one experiment of a kind with n seeds went wrong, and how often it may."""

    name: str
    wrong: Callable[[str, Generator, int], bool]
    covers: bool


def _misses(interval: Callable[[list[float]], Interval | None]) -> Callable[[str, Generator, int], bool]:
    def wrong(kind: str, generator: Generator, n: int) -> bool:
        found = interval(alone(kind, generator, n))
        return found is not None and not found[0] <= 0 <= found[1]  # none is shown where there is none

    return wrong


def _misses_ratio(kind: str, generator: Generator, n: int) -> bool:
    """Half of the way from plain to joint training, which is 20 deviations long."""
    plain, joint, method = errors("normal", generator, (3, n))
    method = method if kind == "normal" else errors(kind, generator, (n,))
    found = ratio_interval((10 + method - plain).tolist(), (20 + joint - plain).tolist())
    return found is not None and not found[0] <= 0.5 <= found[1]


def _frontiers(kind: str, generator: Generator, n: int, both: bool, gap: float = 1.0) -> list[float]:
    """Differences at equal plasticity of two families on one line; the second, or both, with errors of that kind.

    Ten other seeds have chosen share and slope. With a ``gap`` of 0.5 two settings lie five standard deviations of a
    run apart, as near as they may.
    """
    settings = LEVEL_POINT + gap * (SETTINGS - LEVEL_POINT)
    values = []
    for family, of in zip(settings, ("normal" if not both else kind, kind), strict=True):
        chosen = (family + ERROR * errors(of, generator, (10, 2, 2))).mean(axis=0)
        share, slope = share_and_slope([(float(x), float(y)) for x, y in chosen], LEVEL)
        mixture = Mixture(("", 0.0), ("", 1.0), share, slope)
        runs = family + ERROR * errors(of, generator, (n, 2, 2))
        points = ({("", 0.0): tuple(low), ("", 1.0): tuple(high)} for low, high in runs.tolist())
        values.append([at_level(mixture, each, LEVEL) for each in points])
    return [a - b for a, b in zip(*values, strict=True)]


def _misses_frontier(gap: float) -> Callable[[str, Generator, int], bool]:
    def wrong(kind: str, generator: Generator, n: int) -> bool:
        low, high = t_interval(_frontiers(kind, generator, n, both=False, gap=gap))
        return not low <= 0 <= high

    return wrong


def _any_star(kind: str, generator: Generator, n: int) -> bool:
    """Any star in a table of methods that all behave like the first."""
    first, *others = errors(kind, generator, (ROWS + 1, n))
    return min(max_t_p([dict(enumerate((other - first).tolist())) for other in others])) < 0.05


CHECKED = (
    Checked("t interval", _misses(t_interval), covers=True),
    Checked("bootstrap interval", _misses(bootstrap_interval), covers=True),
    Checked("share of the way (Fieller)", _misses_ratio, covers=True),
    Checked("at equal plasticity", _misses_frontier(1.0), covers=True),
    Checked("at equal plasticity, settings close", _misses_frontier(0.5), covers=True),
    Checked("primary star", lambda kind, generator, n: sign_flip_p(alike(kind, generator, n)) < 0.05, covers=False),
    Checked(f"any star of {ROWS} rows", _any_star, covers=False),
    Checked(
        "star at equal plasticity",
        lambda kind, generator, n: sign_flip_p(_frontiers(kind, generator, n, both=True)) < 0.05,
        covers=False,
    ),
    Checked(
        "equivalence at the margin",
        lambda kind, generator, n: equivalence_p([MARGIN + d for d in alike(kind, generator, n)], MARGIN) < 0.05,
        covers=False,
    ),
    Checked(
        "mean: primary star", lambda kind, generator, n: sign_flip_p(alone(kind, generator, n)) < 0.05, covers=False
    ),
)


@cache
def _found(scale: str) -> tuple[tuple[Checked, str, int, float], ...]:
    return tuple(_shares(scale))


def _shares(scale: str) -> Iterator[tuple[Checked, str, int, float]]:
    for number, checked in enumerate(CHECKED):
        for place, kind in enumerate(KINDS):
            for n in SEEDS:
                generator = np.random.default_rng([number, place, n])
                wrong = sum(checked.wrong(kind, generator, n) for _ in range(TRIALS[scale]))
                share = wrong / TRIALS[scale]
                yield checked, kind, n, 1 - share if checked.covers else share


def numbers(scale: str) -> dict[str, float]:
    """Return the coverage of each interval and the share of experiments with a wrong star, by kind and seeds."""
    return {f"{checked.name}, {kind}, n = {n}": share for checked, kind, n, share in _found(scale)}


def figure(scale: str) -> Figure:
    """Draw coverage and wrong stars by kind of data and seeds."""
    found = _found(scale)
    drawn = Figure(figsize=(9.0, 5.4), layout="constrained")
    with sns.axes_style("whitegrid"):
        axes = drawn.subplots(1, 2)
    colours = dict(zip(KINDS, sns.color_palette("colorblind", len(KINDS)), strict=True))
    for axis, covers, low, high in zip(axes, (True, False), (0.93, 0.0), (0.97, 0.06), strict=True):
        rows = [checked.name for checked in CHECKED if checked.covers == covers]
        axis.axvspan(low, high, color="0.9", lw=0)
        for kind, colour in colours.items():
            for place, row in enumerate(rows):
                shares = [share for checked, its, _, share in found if checked.name == row and its == kind]
                heights = [place + 0.18 * (k - 1) for k in range(len(SEEDS))]
                axis.plot(shares, heights, "o", ms=5, color=colour, alpha=0.8, label=kind if place == 0 else None)
        axis.set_yticks(range(len(rows)), rows)
        axis.invert_yaxis()
        axis.set(xlabel="coverage of 95 % intervals" if covers else "share of experiments with a star")
    axes[0].legend(fontsize="small", loc="lower left")
    seeds = ", ".join(map(str, SEEDS))
    error = 100 * 1.96 * math.sqrt(0.05 * 0.95 / TRIALS[scale])
    drawn.supxlabel(
        f"{TRIALS[scale]} simulated experiments a point (± {error:.1f} points); from top to bottom n = {seeds}; grey: "
        "what is asked for",
        fontsize="small",
    )
    return drawn
