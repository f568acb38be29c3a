"""What families keep at equal plasticity: tested, where settings were chosen on other runs; else told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cl_nvrm.analysis.choice import Choice, Mixture, Setting, at_level
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
from cl_nvrm.errors import UserError, counted

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

    The mean over levels (or the only level) of a primary contrast is adjusted for other primary ones alone, all other
    rows for one another. Runs that diverged keep nothing. UserError if settings have no runs, or two common seeds,
    and for a primary contrast that there is not.
    """
    cells = {(cell.spec.strategy, cell.spec.lr): cell for cell in of if but_for_values(cell.spec) == choice.spec}
    missing = [setting for setting in choice.settings if setting not in cells]
    if missing:
        raise UserError(f"{len(missing)} of {len(choice.settings)} settings of the frontier have no runs yet")
    common = set.intersection(*(_seeds(cells[setting]) for setting in choice.settings)) - set(choice.seeds)
    if len(common) < 2:
        raise UserError(
            f"the settings of the frontier have {counted(len(common), 'fresh seed')} in common; two are needed"
        )
    check_primary(choice, primary)
    rows = [
        row
        for first, second in choice.contrasts
        for row in _rows(choice, cells, sorted(common), first, second, (first, second) in primary)
    ]
    rows.sort(key=lambda row: (not row.primary, row.level is not None))
    return [*_adjusted([row for row in rows if row.primary]), *_adjusted([row for row in rows if not row.primary])]


def check_primary(choice: Choice, primary: Sequence[tuple[str, str]]) -> None:
    """Raise UserError for a primary contrast that is none of the frontier's, or that not all levels have."""
    for first, second in primary:
        if (first, second) not in choice.contrasts:
            known = ", ".join(f"'{one} - {other}'" for one, other in choice.contrasts)
            raise UserError(f"the frontier has no contrast '{first} - {second}'; it has {known}")
        if None in (*choice.families[first], *choice.families[second]):
            raise UserError(f"'{first} - {second}': a level is out of reach; give lower --levels")


def _rows(
    choice: Choice, cells: Mapping[Setting, Cell], seeds: Sequence[int], first: str, second: str, primary: bool
) -> list[AtEqualPlasticity]:
    rows, every = [], []
    for level, *mixtures in zip(choice.levels, choice.families[first], choice.families[second], strict=True):
        used = [mixture for mixture in mixtures if mixture]
        if len(used) < 2:
            continue
        kept = [kept_at(mixture, cells, level, seeds) for mixture in used]
        every.append(kept)
        settings = {setting for mixture in used for setting in (mixture.first, mixture.second)}
        diverged = sum(len(cells[setting].diverged) for setting in settings)
        rows.append(_row(level, first, second, *kept, same=used[0] == used[1], diverged=diverged))
    if len(rows) == len(choice.levels) > 1:
        means = [{seed: float(np.mean([kept[k][seed] for kept in every])) for seed in seeds} for k in (0, 1)]
        same, diverged = all(row.same for row in rows), max(row.diverged for row in rows)
        rows = [_row(None, first, second, *means, same=same, diverged=diverged), *rows]
    return [replace(row, primary=primary and number == 0) for number, row in enumerate(rows)]


def _row(
    level: float | None,
    first: str,
    second: str,
    one: dict[int, float],
    other: dict[int, float],
    *,
    same: bool,
    diverged: int,
) -> AtEqualPlasticity:
    found = compare(one, other)
    assert found is not None
    return AtEqualPlasticity(level, first, second, found.mean, found, found.p, same=same, diverged=diverged)


def kept_at(mixture: Mixture, cells: Mapping[Setting, Cell], level: float, seeds: Sequence[int]) -> dict[int, float]:
    """Return the accuracy kept at a plasticity, by seed; 0 for a seed of which a run diverged."""
    kept = {}
    for seed in seeds:
        points = {setting: _point(cells[setting], seed) for setting in (mixture.first, mixture.second)}
        there = {setting: point for setting, point in points.items() if point is not None}
        kept[seed] = at_level(mixture, there, level) if len(there) == len(points) else 0.0
    return kept


def _point(cell: Cell, seed: int) -> Point | None:
    x, y = (cell.values(name).get(seed) for name in (PLASTICITY, STABILITY))
    return None if x is None or y is None else (x, y)


def _seeds(cell: Cell) -> set[int]:
    return {result.spec.seed for result in (*cell.done, *cell.diverged)}


def _adjusted(rows: Sequence[AtEqualPlasticity]) -> list[AtEqualPlasticity]:
    adjusted = max_t_p([row.found.values if row.found else {} for row in rows])
    return [replace(row, p_adjusted=max(row.p_adjusted or 0.0, p)) for row, p in zip(rows, adjusted, strict=True)]
