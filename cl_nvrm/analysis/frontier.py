"""Frontier: what each method can keep, against how well it still learns.

A *family* is a sum of strategies whatever their strengths and the learning rate. Each of its settings has a plasticity
(mean accuracy on a task just learned) and a stability (mean accuracy at the end on all tasks but the last); a family's
frontier is made of the settings that none of its others beats in both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cl_nvrm.analysis.comparisons import Cell, family, less_one_term
from cl_nvrm.analysis.stats import Comparison, compare, holm

PLASTICITY, STABILITY = "learning accuracy", "kept accuracy"
FEWEST_SETTINGS = 3
Point = tuple[float, float]


@dataclass(frozen=True)
class AtEqualPlasticity:
    """``first`` minus ``second`` in accuracy kept, both at a plasticity of at least ``level``."""

    level: float
    first: str
    second: str
    found: Comparison
    p_holm: float


def families(of: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Return the cells by family, those with a stability and a plasticity only."""
    found: dict[str, list[Cell]] = {}
    for cell in of:
        if cell.values(STABILITY):
            found.setdefault(family(cell.spec.strategy), []).append(cell)
    return found


def several_settings(by_family: Mapping[str, Sequence[Cell]]) -> bool:
    """Return whether some family was run with enough settings for a frontier to say something."""
    return any(len(of) >= FEWEST_SETTINGS for of in by_family.values())


def mean_point(cell: Cell, without: int | None = None) -> Point | None:
    """Return mean plasticity and stability over the seeds, one of them left out if so asked."""
    values = zip(cell.values(PLASTICITY).items(), cell.values(STABILITY).values(), strict=True)
    points = [(x, y) for (seed, x), y in values if seed != without]
    if not points:
        return None
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def front(of: Sequence[Cell], without: int | None = None) -> list[tuple[Point, Cell]]:
    """Return the settings that no other one beats in both means, by rising plasticity."""
    points = [(point, cell) for cell in of if (point := mean_point(cell, without)) is not None]
    best: list[tuple[Point, Cell]] = []
    for point, cell in sorted(points, key=lambda one: one[0], reverse=True):
        if not best or point[1] > best[-1][0][1]:
            best.append((point, cell))
    return best[::-1]


def kept_at(of: Sequence[Cell], level: float) -> dict[int, float]:
    """Return, by seed, the accuracy a family keeps at a plasticity of at least ``level``.

    Which settings make up the frontier is decided without the seed in question, so that a family gains nothing from
    having more settings to choose the luckiest from. Between two settings the value is that of a mixture of both. Seeds
    where the family does not reach ``level`` are left out.
    """
    kept = {}
    for seed in sorted({seed for cell in of for seed in cell.values(STABILITY)}):
        line = front(of, without=seed)
        if not line or line[-1][0][0] < level or any(seed not in cell.values(STABILITY) for _, cell in line):
            continue
        above = next(i for i, (point, _) in enumerate(line) if point[0] >= level)
        (x, _), upper = line[above]
        value = upper.values(STABILITY)[seed]
        if above:
            (x0, _), lower = line[above - 1]
            share = (x - level) / (x - x0)
            value += share * (lower.values(STABILITY)[seed] - value)
        kept[seed] = value
    return kept


def levels(of: Sequence[Cell], count: int = 4) -> list[float]:
    """Return whole percents of plasticity, evenly over a family's frontier: where to compare others with it."""
    line = front(of)
    if not line:
        return []
    low, high = (int(100 * line[end][0][0]) for end in (0, -1))
    step = max(1, -(-(high - low) // max(1, count - 1)))
    return [percent / 100 for percent in range(high, low - 1, -step)][::-1]


def at_equal_plasticity(by_family: dict[str, list[Cell]], baseline: str) -> list[AtEqualPlasticity]:
    """Compare families at equal plasticity: each with the baseline, and each sum with itself less one term.

    p is adjusted for all comparisons made.
    """
    names = list(by_family)
    chosen = [(name, baseline) for name in names if name != baseline]
    for whole in names:
        for part in names:
            if less_one_term(whole, part) and (whole, part) not in chosen:
                chosen.append((whole, part))
    made = []
    for level in levels(by_family[baseline]):
        at_level = {name: kept_at(of, level) for name, of in by_family.items()}
        for first, second in chosen:
            found = compare(at_level[first], at_level[second])
            if found is not None and found.n > 1:
                made.append((level, first, second, found))
    adjusted = holm([found.p for *_, found in made])
    return [AtEqualPlasticity(*one, p) for one, p in zip(made, adjusted, strict=True)]
