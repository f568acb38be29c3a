"""What a sweep shows: a table a strategy for people, one JSON object for programs."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from cl_nvrm.analysis.comparisons import Cell, Paired
from cl_nvrm.analysis.metrics import METRICS, base_task, mean_accuracy, metric, summary
from cl_nvrm.analysis.stats import FEWEST, Comparison, Interval, mean_sd, stars
from cl_nvrm.spec import SCHEMA, RunResult

CURVES = {"base task": base_task, "mean accuracy": mean_accuracy}


def strategy_table(cell: Cell) -> Group:
    """Return a table of base-task and mean accuracy (%) after each task, mean ± sd over the finished trials.

    Of a single task, the metrics there are.
    """
    done = cell.done
    lines: list[Any] = []
    table = Table(title=f"{cell.name}  (n = {len(done)}, %)", title_justify="left")
    if done and len(done[0].accuracy) == 1:
        row = []
        for name in METRICS:
            values = [v for r in done if (v := metric(name, r).value) is not None]
            if values:
                table.add_column(name, justify="right")
                row.append(percent(values))
        table.add_row(*row)
        lines.append(table)
    elif done:
        table.add_column("after task", no_wrap=True)
        for task in range(len(done[0].accuracy)):
            table.add_column(str(task + 1), justify="right", no_wrap=True)
        for name, curve in CURVES.items():
            columns = zip(*(curve(r.accuracy) for r in done), strict=True)
            table.add_row(name, *(percent(column) for column in columns))
        lines.append(table)
    for r in cell.results:
        if r.status != "done":
            kept = f"; accuracy up to task {len(r.accuracy)} is kept" if r.accuracy else ""
            lines.append(Text(f"{cell.name}, seed {r.spec.seed}: {r.status} ({r.error}){kept}"))
    return Group(*lines)


def percent(values: Sequence[float]) -> str:
    """Write the mean in percent, with the standard deviation where there is more than one value."""
    mean, sd = mean_sd([100 * v for v in values])
    return f"{mean:.1f} ± {sd:.1f}" if len(values) > 1 else f"{mean:.1f}"


def comparison_table(rows: Sequence[Paired]) -> Group:
    """Return the paired differences in points, with intervals, adjusted p, effect sizes and the seeds they need."""
    table = Table(title="differences on the same seeds, points", title_justify="left")
    table.add_column("")
    table.add_column("metric")
    for heading in ("difference", "95 % CI", "n", "p (Holm)", "effect", "seeds needed"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        found = row.found
        table.add_row(
            f"{row.first} - {row.second}",
            row.metric,
            f"{100 * found.mean:+.1f}{stars(row.p_holm, found.n)}",
            interval(found.t),
            str(found.n),
            f"{row.p_holm:.3g}",
            "" if found.effect is None else f"{found.effect:.2f}",
            _seeds(found),
        )
    notes = []
    if any(row.found.n >= FEWEST for row in rows):
        notes.append("* p < 0.05, ** p < 0.01, *** p < 0.001: sign-flip test, adjusted for all rows of a metric.")
    if any(row.found.n < FEWEST for row in rows):
        least = min(row.found.n for row in rows)
        notes.append(f"With fewer than {FEWEST} seeds nothing is marked as significant; some here have {least}.")
    return Group(table, Text(" ".join(notes)))


def _seeds(found: Comparison) -> str:
    if found.effect is None:
        return ""
    return "over 10,000" if found.seeds_needed is None else str(found.seeds_needed)


def duration(seconds: float) -> str:
    """Write about how long something takes; NaN if that is not known."""
    if math.isnan(seconds):
        return "time unknown"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def interval(ends: Interval) -> str:
    """Write an interval of shares in points."""
    return f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


def write(
    console: Console,
    cells: Sequence[Cell],
    compared: Sequence[Paired],
    figures: Sequence[Path],
    store: Path,
) -> None:
    """Print a table a strategy, their differences, and where the figures and the runs are."""
    for cell in cells:
        console.print(strategy_table(cell))
    if compared:
        console.print(comparison_table(compared))
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
