"""Listing: runs as a table of what differs between them, or as JSON."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cl_nvrm.errors import counted, note
from cl_nvrm.spec import RunSpec
from cl_nvrm.spec.cell_names import NAMES
from cl_nvrm.spec.grammar import write_value
from cl_nvrm.spec.settings import TERMS, terms
from cl_nvrm.sweep.contents import FINISHED, StoredRun
from cl_nvrm.sweep.filters import narrow, plain, read, select, values_of

USUAL = {field.name: field.default for field in fields(RunSpec)} | {"weight_decay": 0.0, "epochs": 0}
Row = dict[str, str]
SIZES = ("B", "kB", "MB", "GB", "TB")
METRICS = ("ACC", "BWT", "forgetting")  # of a finished run; other keys are shown where they are sorted by
WRAPPED = ("benchmark", "strategy", "settings", "folder")  # the other columns are one line high
NARROW = 24  # characters that a wrapped column needs
LEAST_FIRST = ("seconds", "forgetting", "when", "dataset", "BWT", "settings")  # what a narrow terminal does without
RIGHT = ("seed", "lr", "seconds", *METRICS)


def list_runs(arguments: argparse.Namespace) -> int:
    """Print the runs that words mean, sorted, and return 0."""
    runs = in_order(select(read(arguments.words)), arguments.sort)[-(arguments.last or 0) :]
    if arguments.format == "json":
        print(json.dumps([as_json(run) for run in runs]))
        return 0
    if not runs:
        note("no run is meant by that; cl-nvrm runs --help says what to write" if arguments.words else "no runs yet")
        return 0
    print_runs(runs, sort=arguments.sort)
    return 0


def in_order(runs: Sequence[StoredRun], key: str | None) -> Sequence[StoredRun]:
    """Return runs sorted by a key of filters, those that do not have it first; else by time, the newest last."""
    by_time = sorted(runs, key=lambda run: run.when)
    if key is None:
        return by_time
    found = {id(run): values_of(run, key) for run in by_time}
    narrow(runs, read([f"{key}!=0"])) if not any(found.values()) else None  # refuses a key that there is not
    return sorted(by_time, key=lambda run: [(isinstance(v, str), v) for v in found[id(run)]])


def as_json(run: StoredRun) -> dict[str, Any]:
    """Return what there is to say of a run in a line, for programs."""
    return {
        "id": run.id,
        "folder": str(run.store.folder),
        "status": run.status,
        "problem": run.problem or None,
        "when": run.when.isoformat(timespec="seconds"),
        "spec": run.spec,
        "settings": {key: value for key, value in run.settings.items() if ":" in key},
        **{plain(key): value for key, value in run.measured.items()},
    }


def print_runs(runs: Sequence[StoredRun], *, sort: str | None = None) -> None:
    """Print what all runs have in common, then a line a run with what differs."""
    console = Console(highlight=False)
    common, rows = lines(runs, sort)
    if not console.is_terminal:
        print("\n".join([*[f"all: {common}"] * bool(common), *_aligned(rows), totals(runs)]))
        return
    if common:
        console.print(Text(f"all: {common}", "dim"))
    columns = _fitting(rows, console.width, sort)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(
            name, justify="right" if name in RIGHT else "left", no_wrap=name not in WRAPPED, overflow="fold"
        )
    for row in rows:
        # Terms are broken where a person would.
        table.add_row(*(Text(row[name].replace(",", ", ") if name in TERMS else row[name]) for name in columns))
    console.print(table)
    console.print(Text(totals(runs), "dim"))


def _aligned(rows: Sequence[Row]) -> Iterator[str]:
    """One line a run, however long, for programs and files."""
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in columns}
    for row in ({name: name for name in columns}, *rows):
        texts = (row[n].rjust(widths[n]) if n in RIGHT else row[n].ljust(widths[n]) for n in columns)
        yield "  ".join(" ".join(text.splitlines()) for text in texts).rstrip()


def _fitting(rows: Sequence[Row], width: int, sort: str | None) -> list[str]:
    """The columns in which there is something to see, less those that matter least, until the others fit."""
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in columns}
    widths |= {name: min(NARROW, widths[name]) for name in WRAPPED if name in widths}
    for name in LEAST_FIRST:
        if name in columns and name != sort and sum(widths[each] + 2 for each in columns) - 2 > width:
            columns.remove(name)
    return columns


def totals(runs: Sequence[StoredRun]) -> str:
    """Return "3 runs, 1 failed, 20 kB"."""
    counts: dict[str, int] = {}
    for run in runs:
        if run.status != FINISHED:
            counts[run.status] = counts.get(run.status, 0) + 1
    others = "".join(f", {count} {status}" for status, count in counts.items())
    return f"{counted(len(runs), 'run')}{others}, {size(sum(run.size for run in runs))}"


def size(count: int) -> str:
    """Return a number of bytes for people to read.

    >>> size(999), size(1_250_000)
    ('999 B', '1.2 MB')
    """
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(SIZES) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {SIZES[unit]}" if unit and value < 99.95 else f"{value:.0f} {SIZES[unit]}"


def lines(runs: Sequence[StoredRun], sort: str | None = None) -> tuple[str, list[Row]]:
    """Return what all runs have in common, and a row a run, of the same columns: what differs, and what came of it."""
    texts = [_texts(run, differing) for differing in [_differing(runs)] for run in runs]
    names = dict.fromkeys(name for row in texts for name in row)
    known = [row for row in texts if row]  # a file that is no run says nothing
    same = {name for name in names if len(known) > 1 and len({row.get(name, "") for row in known}) == 1}
    common = ", ".join(_named(name, known[0][name]) for name in names if name in same and name != "dataset_sha256")
    digits = _digits([run.id for run in runs])
    all_finished = all(run.status == FINISHED for run in runs)
    folders = len({run.store.folder for run in runs}) > 1
    shown = [name for name in ("benchmark", "dataset", "strategy", "lr", "seed") if name in names and name not in same]
    others = [name for name in names if name not in same and name not in shown]
    rows = []
    for run, row in zip(runs, texts, strict=True):
        line = {"run": run.id[:digits], "when": run.when.strftime("%Y-%m-%d %H:%M")}
        line["status"] = "" if all_finished else run.status
        line |= {"folder": str(run.store.folder)} if folders else {}
        line |= {name: row.get(name, "") for name in shown if name != "seed"}
        line["settings"] = ", ".join(_named(name, row[name]) for name in others if row.get(name))
        line |= {"seed": row.get("seed", "")} if "seed" in shown else {}
        line |= {name: _number(run.measured.get(name)) for name in METRICS}
        if sort and plain(sort) not in map(plain, (*line, *names)):
            line[sort] = ", ".join(map(_number, values_of(run, sort)))
        seconds = run.measured.get("seconds")
        line["seconds"] = f"{seconds:.0f}" if isinstance(seconds, float) else ""
        rows.append(line)
    return common, rows


def _named(field: str, text: str) -> str:
    return f"{'' if field in TERMS else NAMES.get(field, field + ' ').replace('_', ' ')}{text}"


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.1f}" if isinstance(value, float) else write_value(value)


def _digits(ids: Sequence[str]) -> int:
    """How many digits tell these ids apart, at least eight."""
    unique = len(set(ids))
    return next((n for n in range(8, 16) if len({run_id[:n] for run_id in ids}) == unique), 16)


def _differing(runs: Sequence[StoredRun]) -> set[str]:
    """The parameters, as ``name:parameter``, that have several values among the runs."""
    seen: dict[str, set[object]] = {}
    for run in runs:
        for key, value in run.settings.items():
            if ":" in key:
                seen.setdefault(key, set()).add(value)
    return {key for key, values in seen.items() if len(values) > 1}


def _texts(run: StoredRun, differing: set[str]) -> Row:
    """The fields of a run's spec as texts, without what is as usual; of terms, only the parameters that differ."""
    row = {}
    for name, value in run.spec.items():
        if USUAL.get(name) == value:
            continue
        if name in TERMS:
            row[name] = "+".join(
                f"{term}:{','.join(told)}" if told else term
                for term, parameters in terms(value)
                for told in [[f"{k}={write_value(v)}" for k, v in parameters.items() if f"{term}:{k}" in differing]]
            )
        elif name == "chosen":
            row[name] = "tuned" if value else ""
        else:
            row[name] = value[:8] if name == "dataset_sha256" else write_value(value)
    return row
