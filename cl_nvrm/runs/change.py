"""Change: move runs, and delete them, after saying what goes."""

import argparse
import sys
from collections.abc import Sequence

from cl_nvrm.errors import FAILED, UserError, counted, note
from cl_nvrm.runs.listing import in_order, print_runs, size
from cl_nvrm.sweep.contents import StoredRun
from cl_nvrm.sweep.filters import Words, read, select
from cl_nvrm.sweep.store import Store


def delete(arguments: argparse.Namespace) -> int:
    """List the runs that words mean, ask, remove them; return 1 if some had to be left."""
    from cl_nvrm.sweep import upkeep

    runs, at_work = _meant(read(arguments.words), "delete")
    print_runs(runs)
    files = sum(len(run.files) for run in runs)
    what = f"{counted(len(runs), 'run')} with {counted(files, 'file')}, {size(sum(run.size for run in runs))}"
    if arguments.dry_run:
        print(f"would delete {what}")
        return 0
    if not arguments.yes and not _agreed(f"Delete {what}?"):
        print("nothing is deleted")
        return 0
    left = upkeep.delete(runs)
    print(f"deleted {counted(len(runs) - len(left), 'run')}")
    return _tell_left([*at_work, *left])


def move(arguments: argparse.Namespace) -> int:
    """Move the runs that words mean to another folder; return 1 if some had to be left."""
    from cl_nvrm.sweep import upkeep

    to = Store(arguments.to)
    if arguments.to.exists() and not arguments.to.is_dir():
        raise UserError(f"--to: {arguments.to} is no folder")
    runs, at_work = _meant(read(arguments.words), "move")
    if arguments.dry_run:
        print_runs(runs)
        there = upkeep.conflicts(runs, to)
        for path in there:
            note(f"{path} is there already and is not the same")
        print(f"would move {counted(len(runs), 'run')} to {arguments.to}" if not there else "would move nothing")
        return 0
    left = upkeep.move(runs, to)
    print(f"moved {counted(len(runs) - len(left), 'run')} to {arguments.to}")
    return _tell_left([*at_work, *left])


def _meant(words: Words, command: str) -> tuple[Sequence[StoredRun], list[StoredRun]]:
    """The runs to change, and those that a command is at; UserError unless words choose some that can be changed."""
    if not words.chosen:
        raise UserError(f"write which runs to {command}: ids, or filters; all of them are 'id=*'")
    found = select(words)
    foreign = [run for run in found if run.status == "foreign"]
    for run in foreign:
        note(f"{run.path} is left alone, as it is no run of that name: {run.problem}")
    at_work = [run for run in found if run.claimed]
    runs = [run for run in found if not run.claimed and run.status != "foreign"]
    if not runs:
        _tell_left(at_work)
        raise UserError(f"there is no run to {command} among what is meant by that")
    return in_order(runs, None), at_work


def _tell_left(left: Sequence[StoredRun]) -> int:
    for run in left:
        note(f"run {run.id} in {run.store.folder} is left alone: a command is at it, or was just now")
    return FAILED if left else 0


def _agreed(question: str) -> bool:
    """Ask, where somebody can answer; UserError where not."""
    if not (sys.stdin and sys.stdin.isatty()):
        raise UserError("nobody can be asked here; write --yes to delete them, or --dry-run to see them")
    print(f"{question} [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
