"""Conduct: the runs behind a target's rows, by the main command's own planning and sweep."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from cl_nvrm.errors import UserError, note
from cl_nvrm.reproduce.definition import SCORES, Row, Target
from cl_nvrm.run.execute import carry_out
from cl_nvrm.run.flags import Arguments, parse
from cl_nvrm.run.plan import Plan, plan
from cl_nvrm.spec import RunResult, RunSpec
from cl_nvrm.spec.cell_names import cell_names
from cl_nvrm.sweep.store import Store


@dataclass(frozen=True)
class Planned:
    """What a target's rows ask for: the runs of each row by name, and the main command's arguments and plan for all."""

    specs: Mapping[str, Sequence[RunSpec]]
    arguments: Arguments
    plan: Plan


def chosen(target: Target, *, texts: Sequence[str], quick: bool, cut: int) -> list[Row]:
    """Return the rows that are meant: with any of ``texts`` in their names, quick ones, or all that ``cut`` tasks tell.

    UserError if there are none.
    """
    named = [row for row in target.rows if not texts or any(text.lower() in row.name.lower() for text in texts)]
    rows = [row for row in named if row.quick or not quick]
    if cut:
        rows = [row for row in rows if 0 < SCORES[row.score].tasks <= cut]
    if not rows:
        asked = [f"--rows '{text}'" for text in texts] + ["--quick"] * quick + [f"--cut {cut}"] * bool(cut)
        raise UserError(f"no row of this target is left by {' '.join(asked)}; leave that out")
    return rows


def plan_rows(
    target: Target,
    rows: Sequence[Row],
    seeds: int,
    cut: int,
    folder: Path,
    more: Sequence[str],
    tell: Callable[[str], None] = note,
) -> Planned:
    """Plan the runs of rows; ``seeds`` (0: as each row says) of each, of the first ``cut`` tasks (0: all)."""
    specs: dict[str, list[RunSpec]] = {}
    made: dict[tuple[str, ...], tuple[Arguments, Plan]] = {}  # many rows may be numbers of the same runs
    for row in rows:
        words = (*target.common.split(), *row.words.split(), "--trials", str(seeds or row.seeds))
        if words not in made:
            data = ["--data", target.data] if target.data else []
            arguments = parse([*words, *data, "--out", str(folder), "--no-plots", *more])
            made[words] = (arguments, _planned(row, arguments, tell))
        first = cut if cut < made[words][1].tasks else 0
        specs[row.name] = [replace(spec, first_tasks=first) for spec in made[words][1].specs]
    if not made:
        raise UserError("there are no rows to run")
    every = list({spec.id: spec for row in specs.values() for spec in row}.values())
    arguments, planned = next(iter(made.values()))
    return Planned(specs, arguments, replace(planned, specs=every, names=cell_names(every)))


def _planned(row: Row, arguments: Arguments, tell: Callable[[str], None]) -> Plan:
    """The plan of a row's runs; UserError if they are of several settings, or of too few tasks for its score."""
    found = plan(arguments, tell)
    settings = len({spec.cell for spec in found.specs})
    if settings > 1:
        raise UserError(f"'{row.name}': a row is one setting, its words ask for {settings}")
    needed = SCORES[row.score].tasks
    if needed > found.tasks:
        raise UserError(f"'{row.name}': {row.score} needs {needed} tasks, its words ask for {found.tasks}")
    return found


def run_rows(planned: Planned, stderr: Console) -> dict[str, list[RunResult]]:
    """Train what is not stored yet, and return the results of each row."""
    results, _ = carry_out(planned.arguments, planned.plan, stderr)
    by_id = {result.id: result for result in results}
    return {name: [by_id[spec.id] for spec in specs] for name, specs in planned.specs.items()}


def stored_rows(planned: Planned) -> dict[str, list[RunResult]]:
    """Return the results that there are already, of the rows that have any."""
    by_id = {result.id: result for result in Store(planned.arguments.out).load()[0]}
    found = {name: [by_id[s.id] for s in specs if s.id in by_id] for name, specs in planned.specs.items()}
    return {name: results for name, results in found.items() if results}
