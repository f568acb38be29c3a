"""Compare: runs side by side, or settings with the tests of the report."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from cl_nvrm.analysis.metrics import METRICS
from cl_nvrm.errors import UserError, counted, note
from cl_nvrm.runs.listing import as_json
from cl_nvrm.spec.grammar import write_value
from cl_nvrm.spec.settings import TERMS
from cl_nvrm.sweep.contents import StoredRun
from cl_nvrm.sweep.filters import read, select

FEWEST = 2
WIDE = 140  # characters, where no terminal says


def compare(arguments: argparse.Namespace) -> int:
    """Print the runs of the ids given side by side, or what filters choose setting by setting, and return 0."""
    words = read(arguments.words)
    runs = [run for run in select(words) if run.result is not None]
    if len(runs) < FEWEST:
        raise UserError(f"{counted(len(runs), 'run')} with a result cannot be compared; choose two or more")
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=WIDE)
    if words.ids:
        runs.sort(key=lambda run: next(n for n, begun in enumerate(words.ids) if run.id.startswith(begun)))
        rows = _side_by_side(runs)
        if arguments.format == "json":
            print(json.dumps({"runs": [as_json(run) for run in runs], "differing": rows}))
        else:
            console.print(_table(runs, rows))
        return 0
    _settings(runs, console, as_json=arguments.format == "json")
    return 0


def _side_by_side(runs: Sequence[StoredRun]) -> dict[str, list[Any]]:
    """What differs: settings, what made them, and all metrics; a value a run, None where it has none."""
    told = []
    for run in runs:
        assert run.result is not None
        made = {key: value for key, value in run.result.provenance.items() if isinstance(value, str | int | bool)}
        made |= run.result.provenance.get("versions", {})
        settings = {key: value for key, value in run.settings.items() if key not in TERMS}
        names = {field: "+".join(part.partition(":")[0] for part in run.spec[field].split("+")) for field in TERMS}
        measured = {key: run.measured.get(key) for key in (*METRICS, "seconds")}
        told.append({"folder": str(run.store.folder), "status": run.status, **names, **settings, **made, **measured})
    keys = dict.fromkeys(key for each in told for key in each)
    rows = {key: [each.get(key) for each in told] for key in keys}
    return {
        key: row
        for key, row in rows.items()
        if (key in METRICS and any(value is not None for value in row)) or len(set(row)) > 1
    }


def _table(runs: Sequence[StoredRun], rows: dict[str, list[Any]]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for run in runs:
        table.add_column(run.id[:8], justify="right", overflow="fold")
    two = len(runs) == FEWEST
    if two:
        table.add_column("second - first", justify="right")
    for key, row in rows.items():
        numbers = [value for value in row if isinstance(value, float)]
        more = [f"{row[1] - row[0]:+.2f}" if len(numbers) == FEWEST and key in (*METRICS, "seconds") else ""] * two
        table.add_row(*(Text(text) for text in (key, *map(_text, row), *more)))
    return table


def _text(value: Any) -> str:
    return (
        "–" if value is None else f"{value:.2f}" if isinstance(value, float) and abs(value) > 1 else write_value(value)
    )


def _settings(runs: Sequence[StoredRun], console: Console, *, as_json: bool) -> None:
    """Print for each benchmark what its settings came to, and the differences on the same seeds."""
    from cl_nvrm.report import contrasts, terminal  # heavy: not needed for runs side by side
    from cl_nvrm.report.sections import MARGIN, sections

    results = {run.id: run.result for run in runs if run.result is not None}
    if len(results) < len(runs):
        note(f"{counted(len(runs) - len(results), 'run')} of the same id in several folders counted once")
    from cl_nvrm.analysis.comparisons import comparisons

    told = []
    for section in sections(list(results.values())):
        compared = comparisons(section.cells)
        told.append({"title": section.title, "comparisons": [asdict(row) for row in compared]})
        if as_json:
            continue
        console.print(Text(section.title, "bold"))
        console.print(terminal.render(next(table for table in section.tables if table.name == "summary")))
        if compared:
            console.print(terminal.render(contrasts.differences_in_short(compared, terminal.IN_SHORT, MARGIN)))
    if as_json:
        print(json.dumps(told))
