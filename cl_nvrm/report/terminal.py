"""The terminal: tables for people, one JSON object for programs."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cl_nvrm.analysis.bounds import shares
from cl_nvrm.analysis.comparisons import Cell, Paired
from cl_nvrm.analysis.equal_plasticity import AtEqualPlasticity
from cl_nvrm.analysis.metrics import base_task, mean_accuracy, summary
from cl_nvrm.report import contrasts, tables
from cl_nvrm.spec import SCHEMA, RunResult

WIDEST = 120  # characters of a line
IN_SHORT = ("base task", "ACC", "memorised")  # metrics; the page has all


def render(table: tables.Table) -> Group:
    """Return a table for the terminal, with its note below; one of too many columns has them as rows."""
    table = table if _width(table) <= WIDEST else _turned(table)
    shown = Table(title=escape(table.title), title_justify="left")
    for number, heading in enumerate(table.header):
        if number < table.texts:  # names may be broken between words, but never away
            words = " ".join([heading, *(row[number].text for row in table.rows)]).split()
            shown.add_column(escape(heading), justify="left", min_width=min(24, max(map(len, words), default=1)))
        else:  # a table of numbers alone may have more columns than fit on a line
            shown.add_column(escape(heading), justify="right", no_wrap=bool(table.texts))
    for row in table.rows:
        shown.add_row(*(escape(entry.text) for entry in row))
    return Group(*([shown] if table.rows else []), *([Text(table.note)] if table.note else []))


def _width(table: tables.Table) -> int:
    """The characters in a line of a table of one name a row and numbers; 0 for others, which can be broken."""
    if table.texts != 1:
        return 0
    columns = zip(table.header, *([entry.text for entry in row] for row in table.rows), strict=True)
    return sum(max(map(len, column)) + 3 for column in columns)


def _turned(table: tables.Table) -> tables.Table:
    """The same table with its rows as columns."""
    header = (table.header[0], *(row[0].text for row in table.rows))
    rows = tuple(
        (tables.Entry(heading), *(row[number] for row in table.rows))
        for number, heading in enumerate(table.header[1:], 1)
    )
    return replace(table, header=header, rows=rows)


def write(
    console: Console,
    cells: Sequence[Cell],
    compared: Sequence[Paired],
    at_equal: Sequence[AtEqualPlasticity],
    margin: float,
    figures: Sequence[Path],
    store: Path,
) -> None:
    """Print a table a strategy, their differences, and where the figures and the runs are.

    Of settings that make up a frontier, what is kept at equal plasticity stands in the place of the differences.
    """
    for cell in cells:
        console.print(render(tables.after_each_task(cell)))
    if at_equal:
        console.print(render(contrasts.equal_plasticity(at_equal, margin)))
    elif compared:
        console.print(render(contrasts.differences_in_short(compared, IN_SHORT, margin)))
    if found := shares(cells):
        console.print(render(tables.of_the_way(found)))
    for path in figures:
        console.print(f"figure: {path}", soft_wrap=True, highlight=False)
    console.print(f"runs:   {store}", soft_wrap=True, highlight=False)


def as_json(
    results: Sequence[RunResult],
    compared: Sequence[Paired],
    at_equal: Sequence[AtEqualPlasticity],
    figures: Sequence[Path],
    store: Path,
) -> dict[str, Any]:
    """Return the JSON object of the command line's contract; what is kept at equal plasticity where that was asked."""
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
        "comparisons": [asdict(row) for row in compared if row.primary or row.metric in IN_SHORT],
        **({"at_equal_plasticity": [asdict(row) for row in at_equal]} if at_equal else {}),
        "figures": [str(path) for path in figures],
        "store": str(store),
    }
