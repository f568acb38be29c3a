"""Condition: what is wrong in folders of runs, and what space they take."""

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cl_nvrm.errors import FAILED, UserError, counted
from cl_nvrm.runs.listing import size
from cl_nvrm.sweep.contents import StoredRun
from cl_nvrm.sweep.filters import read, select
from cl_nvrm.sweep.problems import problems
from cl_nvrm.sweep.store import Store

LARGEST = 5  # runs that are named


def check(arguments: argparse.Namespace) -> int:
    """Print the files with which something is wrong, and return 1 if there are any."""
    words = read(arguments.words)
    if words.chosen:
        raise UserError("check looks at whole folders; leave out ids and filters")
    found = {path: what for folder in words.folders for path, what in problems(Store(folder)).items()}
    if arguments.format == "json":
        print(json.dumps([{"path": str(path), "problem": what} for path, what in found.items()]))
    else:
        for path, what in found.items():
            print(f"{path}: {what}")
        where = ", ".join(map(str, words.folders))
        print(f"{counted(len(found), 'problem')} in {where}" if found else f"nothing is wrong in {where}")
    return FAILED if found else 0


def disk(arguments: argparse.Namespace) -> int:
    """Print the space that runs take by kind of file, and the largest, and return 0."""
    words = read(arguments.words)
    runs = select(words)
    kinds: dict[str, tuple[int, int]] = {}
    for run in runs:
        for file in run.files:
            count, total = kinds.get(file.kind, (0, 0))
            kinds[file.kind] = count + 1, total + file.size
    others = 0 if words.chosen else _others(words.folders, runs)
    largest = sorted(runs, key=lambda run: -run.size)[:LARGEST]
    if arguments.format == "json":
        told = [{"kind": kind, "files": count, "bytes": total} for kind, (count, total) in kinds.items()]
        by_size = [{"id": run.id, "folder": str(run.store.folder), "bytes": run.size} for run in largest]
        print(json.dumps({"runs": len(runs), "kinds": told, "other_bytes": others, "largest": by_size}))
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("kind")
    table.add_column("files", justify="right")
    table.add_column("size", justify="right")
    for kind, (count, total) in sorted(kinds.items(), key=lambda item: -item[1][1]):
        table.add_row(kind, str(count), size(total))
    if others:
        table.add_row("figures, searches and whatever else is there", "", size(others))
    table.add_row(f"all of {counted(len(runs), 'run')}", "", size(others + sum(run.size for run in runs)))
    console = Console(highlight=False)
    console.print(table)
    if largest:
        console.print(Text("largest: " + ", ".join(f"{run.id[:8]} {size(run.size)}" for run in largest), "dim"))
    return 0


def _others(folders: tuple[Path, ...], runs: list[StoredRun]) -> int:
    """The bytes of files that belong to no run, in and below folders."""
    known = {file.path for run in runs for file in run.files}
    files = {path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}
    return sum(path.stat().st_size for path in files - known)
