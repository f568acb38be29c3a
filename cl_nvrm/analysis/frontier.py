"""Frontier: what each method can keep, against how well it still learns.

A *family* is a sum of strategies whatever their strengths and the learning rate. Each of its settings has a plasticity
(mean accuracy on a task just learned) and a stability (mean accuracy at the end on all tasks but the last); a family's
frontier is made of the settings that none of its others beats in both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from cl_nvrm.analysis.comparisons import Cell, but_for_values, less_one_term
from cl_nvrm.analysis.stats import Comparison, compare, holm
from cl_nvrm.spec import RunSpec, grammar
from cl_nvrm.spec.cell_names import cell_names

PLASTICITY, STABILITY = "learning accuracy", "kept accuracy"
FEWEST_SETTINGS = 3
CLOSE = 0.002  # of plasticity: nearer ones are one place
ROUNDING = 1e-9
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
    return {names[key]: group for key, group in found.items()}


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
    """Return, by seed, the accuracy a family keeps at a plasticity of at least ``level``; nothing if out of its reach.

    Which settings make up the frontier is decided without the seed in question, so that a family gains nothing from
    having more settings to choose the luckiest from. Between two settings the value is that of a mixture of both.
    """
    line = front(of)
    if not line or level > line[-1][0][0] + ROUNDING:
        return {}
    seeds = sorted(set.intersection(*(set(cell.values(STABILITY)) for cell in of)))
    return {seed: _read_off(front(of, without=seed) or line, level, seed) for seed in seeds}


def _read_off(line: Sequence[tuple[Point, Cell]], level: float, seed: int) -> float:
    xs = [x for (x, _), _ in line]
    ys = [cell.values(STABILITY)[seed] for _, cell in line]
    # Below its lower end the frontier keeps that end's value, which has more plasticity than asked for. Above the upper
    # end, where leaving out a seed has moved that down a little, the end holds, too.
    return float(np.interp(level, xs, ys))


def levels(first: Sequence[Cell], second: Sequence[Cell]) -> list[float]:
    """Return where to compare two families: at the highest plasticity both reach, and amid what both frontiers span."""
    lines = [[x for (x, _), _ in front(of)] for of in (first, second)]
    if not all(lines):
        return []
    low, high = max(line[0] for line in lines), min(line[-1] for line in lines)
    return [high] if high - low < CLOSE else [(low + high) / 2, high]


def at_equal_plasticity(by_family: dict[str, list[Cell]]) -> list[AtEqualPlasticity]:
    """Compare families at equal plasticity: each with the first, and each sum with itself less one term.

    p is adjusted for all rows.
    """
    names = list(by_family)
    chosen = [(name, names[0]) for name in names[1:]]
    for whole, part in product(names, names):
        first, second = by_family[whole][0].spec, by_family[part][0].spec
        if (
            less_one_term(grammar.family(first.strategy), grammar.family(second.strategy))
            and (whole, part) not in chosen
        ):
            chosen.append((whole, part))
    made = []
    for one, other in chosen:
        first_cells, second_cells = by_family[one], by_family[other]
        if but_for_values(first_cells[0].spec) != but_for_values(second_cells[0].spec):
            continue
        for level in levels(first_cells, second_cells):
            found = compare(kept_at(first_cells, level), kept_at(second_cells, level))
            if found is not None and found.n > 1:
                made.append((level, one, other, found))
    adjusted = holm([found.p for *_, found in made])
    return [AtEqualPlasticity(*row, p) for row, p in zip(made, adjusted, strict=True)]
