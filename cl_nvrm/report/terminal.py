"""The terminal: tables for people, one JSON object for programs."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from cl_nvrm.analysis.comparisons import Cell, Paired
from cl_nvrm.analysis.metrics import base_task, mean_accuracy, summary
from cl_nvrm.report import tables
from cl_nvrm.spec import SCHEMA, RunResult


def render(table: tables.Table) -> Group:
    """Return a table for the terminal, with its note below."""
    shown = Table(title=table.title, title_justify="left")
    for number, heading in enumerate(table.header):
        named = number < table.texts
        # A table of numbers alone may have more columns than fit on a line.
        shown.add_column(heading, justify="left" if named else "right", no_wrap=bool(table.texts) and not named)
    for row in table.rows:
        shown.add_row(*(entry.text for entry in row))
    return Group(*([shown] if table.rows else []), *([Text(table.note)] if table.note else []))


def duration(seconds: float) -> str:
    """Write about how long something takes; NaN if that is not known."""
    if math.isnan(seconds):
        return "time unknown"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def write(
    console: Console,
    cells: Sequence[Cell],
    compared: Sequence[Paired],
    figures: Sequence[Path],
    store: Path,
) -> None:
    """Print a table a strategy, their differences, and where the figures and the runs are."""
    for cell in cells:
        console.print(render(tables.after_each_task(cell)))
    if compared:
        console.print(render(tables.differences_in_short(compared)))
    for path in figures:
        console.print(f"figure: {path}", soft_wrap=True, highlight=False)
    console.print(f"runs:   {store}", soft_wrap=True, highlight=False)


def as_json(
    results: Sequence[RunResult], compared: Sequence[Paired], figures: Sequence[Path], store: Path
) -> dict[str, Any]:
    """Return the JSON object of the command line's contract."""
    return {
        "schema": SCHEMA,
        "runs": [
            {
                "id": r.id,
                "spec": asdict(r.spec),
                "strategy": r.spec.strategy,
                "benchmark": r.spec.benchmark,
                "dataset": r.spec.dataset,
                "seed": r.spec.seed,
                "status": r.status,
                "error": r.error,
                "accuracy": r.accuracy,
                "base_task": base_task(r.accuracy),
                "mean_accuracy": mean_accuracy(r.accuracy),
                "metrics": {name: asdict(found) for name, found in summary(r).items()},
                "train_seconds": r.train_seconds,
                "eval_seconds": r.eval_seconds,
                "curves": r.curves,
                "diagnostics": r.diagnostics,
            }
            for r in results
        ],
        "comparisons": [asdict(row) for row in compared],
        "figures": [str(path) for path in figures],
        "store": str(store),
    }
