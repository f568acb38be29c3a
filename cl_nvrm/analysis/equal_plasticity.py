"""What families keep at equal plasticity: tested, where settings were chosen on other runs; else told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cl_nvrm.analysis.choice import Choice, Setting
from cl_nvrm.analysis.comparisons import Cell, but_for_values
from cl_nvrm.analysis.frontier import (
    PLASTICITY,
    STABILITY,
    Families,
    Point,
    between,
    contrasts,
    mean_point,
    mixture_at,
    with_parts,
)
from cl_nvrm.analysis.permutation import max_t_p
from cl_nvrm.analysis.stats import Comparison, compare
from cl_nvrm.errors import UserError

Mixtures = Sequence[tuple[Cell, Cell] | None]  # by level


@dataclass(frozen=True)
class AtEqualPlasticity:
    """``first`` minus ``second`` in accuracy kept at a plasticity of ``level``; None stands for the mean of all levels.

    ``found`` is None, and p with it, where the settings were chosen on these very runs: no test holds there.
    ``same`` says that both families have the same settings there. ``diverged`` runs count as keeping nothing.
    """

    level: float | None
    first: str
    second: str
    difference: float
    found: Comparison | None = None
    p_adjusted: float | None = None
    primary: bool = False
    same: bool = False
    diverged: int = 0


def on_same_runs(by_family: Families, levels: Sequence[float]) -> list[AtEqualPlasticity]:
    """Return the differences between the frontiers of families, drawn on the same runs that chose their settings."""
    whole = with_parts(by_family)
    mixtures = {name: [mixture_at(of, level) for level in levels] for name, of in whole.items()}
    rows = []
    for first, second in contrasts(by_family):
        differences = []
        for level, one, other in zip(levels, mixtures[first], mixtures[second], strict=True):
            if one and other:
                kept = [between([mean_point(cell) for cell in both], level) for both in (one, other)]
                differences.append(kept[0] - kept[1])
                rows.append(AtEqualPlasticity(level, first, second, differences[-1], same=one == other))
        if len(differences) == len(levels) > 1:
            rows.append(AtEqualPlasticity(None, first, second, float(np.mean(differences))))
    return rows


def on_fresh_runs(
    choice: Choice, of: Sequence[Cell], primary: Sequence[tuple[str, str]] = ()
) -> list[AtEqualPlasticity]:
    """Compare families on runs that had no part in the choice, by seed; rows of the mean over all levels first.

    A value between two settings is a ratio of means, so each seed has its jackknife pseudo-value (Miller, "The
    jackknife: a review", Biometrika 61, 1974), which takes the error of plasticity into account; differences of these
    are tested as any others. The mean over levels of a primary contrast is not adjusted but for other primary ones, all
    other rows are adjusted for one another. UserError for a primary contrast that there is not.
    """
    cells = {(cell.spec.strategy, cell.spec.lr): cell for cell in of if but_for_values(cell.spec) == choice.spec}
    missing = [setting for setting in choice.settings if setting not in cells]
    if missing:
        raise UserError(f"{len(missing)} of {len(choice.settings)} settings of the frontier have no runs yet")
    seeds = sorted(set.intersection(*(_seeds(cells[setting]) for setting in choice.settings)))
    for pair in primary:
        if pair not in choice.contrasts:
            known = ", ".join(f"'{first} - {second}'" for first, second in choice.contrasts)
            raise UserError(f"the frontier has no contrast '{pair[0]} - {pair[1]}'; it has {known}")
    rows = [
        row
        for first, second in choice.contrasts
        for row in _rows(choice, cells, seeds, first, second, (first, second) in primary)
    ]
    rows.sort(key=lambda row: (not row.primary, row.level is not None))
    return [*_adjusted([row for row in rows if row.primary]), *_adjusted([row for row in rows if not row.primary])]


def _rows(
    choice: Choice, cells: Mapping[Setting, Cell], seeds: Sequence[int], first: str, second: str, primary: bool
) -> list[AtEqualPlasticity]:
    rows, every = [], []
    for number, level in enumerate(choice.levels):
        mixtures = [choice.families[name][number] for name in (first, second)]
        if mixtures[0] is None or mixtures[1] is None:
            continue
        kept = [pseudo_values([cells[setting] for setting in mixture], level, seeds) for mixture in mixtures if mixture]
        found = compare(*kept)
        if found is None or found.n < 2:
            continue
        every.append(kept)
        used = {setting for mixture in mixtures if mixture for setting in mixture}
        diverged = sum(len(cells[setting].diverged) for setting in used)
        same = mixtures[0] == mixtures[1]
        rows.append(AtEqualPlasticity(level, first, second, found.mean, found, found.p, same=same, diverged=diverged))
    if len(rows) == len(choice.levels) > 1:
        means = [{seed: float(np.mean([kept[k][seed] for kept in every])) for seed in every[0][k]} for k in (0, 1)]
        found = compare(*means)
        assert found is not None
        whole = AtEqualPlasticity(
            None, first, second, found.mean, found, found.p, primary,
            same=all(row.same for row in rows), diverged=max(row.diverged for row in rows),
        )  # fmt: skip
        rows = [whole, *rows]
    return rows


def pseudo_values(of: Sequence[Cell], level: float, seeds: Sequence[int]) -> dict[int, float]:
    """Return the accuracy kept at a plasticity between two settings, a jackknife pseudo-value a seed.

    Their mean is the value between the settings' means, less the bias of that. Seeds of which a run diverged keep 0.
    """
    at = {seed: [_point(cell, seed) for cell in of] for seed in seeds}
    fine = {seed: [point for point in points if point] for seed, points in at.items() if all(points)}
    values = dict.fromkeys(seeds, 0.0)
    if len(fine) < 2 or of[0] is of[1]:
        return values | {seed: points[0][1] for seed, points in fine.items()}
    return values | dict(zip(fine, jackknife(np.array(list(fine.values())), level), strict=True))


def jackknife(points: NDArray[np.float64], level: float) -> list[float]:
    """Return the pseudo-values of the stability at a plasticity; ``points`` by seed, setting (two), and coordinate."""
    n, total = len(points), points.sum(axis=0)
    all_of = _between(total / n, level)
    return [n * all_of - (n - 1) * _between((total - own) / (n - 1), level) for own in points]


def _between(means: NDArray[np.float64], level: float) -> float:
    (x0, y0), (x1, y1) = means.tolist()
    return between([(x0, y0), (x1, y1)], level)


def _point(cell: Cell, seed: int) -> Point | None:
    x, y = (cell.values(name).get(seed) for name in (PLASTICITY, STABILITY))
    return None if x is None or y is None else (x, y)


def _seeds(cell: Cell) -> set[int]:
    return {result.spec.seed for result in (*cell.done, *cell.diverged)}


def _adjusted(rows: Sequence[AtEqualPlasticity]) -> list[AtEqualPlasticity]:
    adjusted = max_t_p([row.found.values if row.found else {} for row in rows])
    return [replace(row, p_adjusted=max(row.p_adjusted or 0.0, p)) for row, p in zip(rows, adjusted, strict=True)]
