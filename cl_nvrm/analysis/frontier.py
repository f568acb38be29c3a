"""Frontier: what each method can keep, against how well it still learns.

A *family* is a sum of strategies whatever their strengths and the learning rate. Each of its settings has a plasticity
(mean accuracy on a task just learned) and a stability (mean accuracy at the end on all tasks but the last). Running one
of two settings at random reaches any point between theirs, so a family's frontier is the upper convex hull of its
settings (Provost and Fawcett, "Robust classification for imprecise environments", Machine Learning 42, 2001).

A sum contains what it is with one of its terms at strength 0, so its settings include those of its parts: a family
cannot lose to one that it contains for want of a small strength in its grid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cl_nvrm.analysis.bounds import BOUNDS
from cl_nvrm.analysis.comparisons import Cell, but_for_values, less_one_term
from cl_nvrm.spec import RunSpec, grammar
from cl_nvrm.spec.cell_names import cell_names

PLASTICITY, STABILITY = "learning accuracy", "kept accuracy"
FEWEST_SETTINGS = 3
LEVELS = 5
CLOSE = 0.01  # of plasticity: some five standard deviations of a run
ROUNDING = 1e-9
Point = tuple[float, float]
Families = Mapping[str, Sequence[Cell]]


def families(of: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Return the cells by family; those with a stability and a plasticity, and all of whose runs finished.

    A setting that fails on some seeds is none to recommend. Cells of one family that differ in more than strengths and
    learning rate (epochs, say) are families of their own.
    """
    found: dict[RunSpec, list[Cell]] = {}
    for cell in of:
        if cell.values(STABILITY) and len(cell.done) == len(cell.results):
            key = replace(but_for_values(cell.spec), strategy=grammar.family(cell.spec.strategy))
            found.setdefault(key, []).append(cell)
    names = cell_names(found)
    order = sorted(found, key=lambda key: len(_terms(key.strategy)))  # plain training first, sums last
    return {names[key]: found[key] for key in order}


def several_settings(by_family: Families) -> bool:
    """Return whether some family was run with enough settings for a frontier to say something."""
    return any(len(of) >= FEWEST_SETTINGS for of in by_family.values())


def with_parts(by_family: Families) -> dict[str, list[Cell]]:
    """Return the families, each with the settings of all that it contains; bounds contain nothing."""
    return {
        name: [cell for part, of in by_family.items() if part == name or _contains(own[0], of[0]) for cell in of]
        for name, own in by_family.items()
    }


def _terms(strategy: str) -> set[str]:
    return set(grammar.PLUS.split(grammar.family(strategy))) - {grammar.NEUTRAL}


def _contains(whole: Cell, part: Cell) -> bool:
    terms, fewer = _terms(whole.spec.strategy), _terms(part.spec.strategy)
    alike = but_for_values(whole.spec) == but_for_values(part.spec)
    return alike and fewer < terms and not terms & set(BOUNDS)


def mean_point(cell: Cell) -> Point:
    """Return mean plasticity and stability over the seeds."""
    return (
        float(np.mean(list(cell.values(PLASTICITY).values()))),
        float(np.mean(list(cell.values(STABILITY).values()))),
    )


def front(of: Sequence[Cell]) -> list[tuple[Point, Cell]]:
    """Return the settings that no mixture of others beats in both means, by rising plasticity."""
    best: list[tuple[Point, Cell]] = []
    for point, cell in sorted(((mean_point(cell), cell) for cell in of), key=lambda one: one[0], reverse=True):
        if best and point[1] <= best[-1][0][1]:
            continue
        while len(best) > 1 and _below(best[-1][0], best[-2][0], point):
            best.pop()
        best.append((point, cell))
    return best[::-1]


def _below(middle: Point, first: Point, last: Point) -> bool:
    """Whether a point lies on or below the line between two others."""
    (x, y), (x0, y0), (x1, y1) = middle, first, last
    return (y - y0) * abs(x1 - x0) <= (y1 - y0) * abs(x - x0)


def mixture_at(of: Sequence[Cell], level: float) -> tuple[Cell, Cell] | None:
    """Return the two settings of a frontier between which a plasticity lies, twice the same one below its lower end.

    Two that are closer than ``CLOSE`` would make a line of any slope on other runs, so the next ones take their place.
    None if the level is out of reach.
    """
    line = front(of)
    if not line or level > line[-1][0][0] + ROUNDING:
        return None
    first = high = next(k for k, ((x, _), _) in enumerate(line) if level <= x + ROUNDING)
    low = max(0, high - 1)
    while low < high and line[high][0][0] - line[low][0][0] < CLOSE:
        if low == 0 and high == len(line) - 1:  # one place
            return line[first][1], line[first][1]
        low, high = max(0, low - 1), min(len(line) - 1, high + 1)
    return line[low][1], line[high][1]


def near_front(by_family: Families, slack: float) -> list[Cell]:
    """Return the cells that keep at most ``slack`` less than their family's frontier does at their plasticity."""
    kept = []
    for name, whole in with_parts(by_family).items():
        xs, ys = zip(*(point for point, _ in front(whole)), strict=True)
        for cell in by_family[name]:
            x, y = mean_point(cell)
            if y >= float(np.interp(x, xs, ys)) - slack - ROUNDING:
                kept.append(cell)
    return kept


def share_and_slope(points: Sequence[Point], level: float) -> tuple[float, float]:
    """Return the share of the second of two points at a plasticity on the line through them, and the line's slope.

    Both 0 if they are one.
    """
    (x0, y0), (x1, y1) = points
    return (0.0, 0.0) if x0 == x1 else ((level - x0) / (x1 - x0), (y1 - y0) / (x1 - x0))


def between(points: Sequence[Point], level: float) -> float:
    """Return the stability at a plasticity on the line through two points; that of the first, if they are one."""
    (_, y0), (_, y1) = points
    share, _ = share_and_slope(points, level)
    return y0 + share * (y1 - y0)


def levels(by_family: Families, count: int = LEVELS) -> list[float]:
    """Return where to compare families: plasticities at equal distances, from where keeping most begins to cost some.

    The lowest is the plasticity of the setting that keeps most, of the family for which that is lowest; the highest,
    which is left out, is what all families can reach. To a hundredth of a point.
    """
    lines = [[x for (x, _), _ in front(of)] for of in with_parts(by_family).values()]
    if not lines:
        return []
    low, high = min(line[0] for line in lines), min(line[-1] for line in lines)
    spaced = np.linspace(low, high, count + 1)[:-1] if high > low else [high]
    return list(dict.fromkeys(float(np.floor(1e4 * level + ROUNDING) / 1e4) for level in spaced))


def contrasts(by_family: Families) -> list[tuple[str, str]]:
    """Return which families to compare: each with the first, and each sum with itself less one term."""
    names = list(by_family)
    chosen = [(name, names[0]) for name in names[1:]]
    for whole in names:
        for part in names:
            first, second = (grammar.family(by_family[name][0].spec.strategy) for name in (whole, part))
            if less_one_term(first, second) and (whole, part) not in chosen:
                chosen.append((whole, part))
    specs = {name: but_for_values(of[0].spec) for name, of in by_family.items()}
    return [(first, second) for first, second in chosen if specs[first] == specs[second]]
