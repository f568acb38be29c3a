"""What a sweep shows: a table a strategy for people, one JSON object for programs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from cl_nvrm.analysis.metrics import base_task, mean_accuracy
from cl_nvrm.analysis.stats import mean_sd
from cl_nvrm.spec import SCHEMA, RunResult

CURVES = {"base task": base_task, "mean accuracy": mean_accuracy}


def strategy_table(label: str, results: Sequence[RunResult]) -> Group:
    """Return a table of base-task and mean accuracy (%) after each task, mean ± sd over the finished trials."""
    done = [r for r in results if r.status == "done"]
    lines: list[Any] = []
    if done:
        table = Table(title=f"{label}  (n = {len(done)}, %)", title_justify="left")
        table.add_column("after task", no_wrap=True)
        for task in range(len(done[0].accuracy)):
            table.add_column(str(task + 1), justify="right", no_wrap=True)
        for name, metric in CURVES.items():
            columns = zip(*(metric(r.accuracy) for r in done), strict=True)
            table.add_row(name, *(percent(column) for column in columns))
        lines.append(table)
    for r in results:
        if r.status != "done":
            kept = f"; accuracy up to task {len(r.accuracy)} is kept" if r.accuracy else ""
            lines.append(Text(f"{label}, seed {r.spec.seed}: {r.status} ({r.error}){kept}"))
    return Group(*lines)


def percent(values: Sequence[float]) -> str:
    """Write the mean in percent, with the standard deviation where there is more than one value."""
    mean, sd = mean_sd([100 * v for v in values])
    return f"{mean:.1f} ± {sd:.1f}" if len(values) > 1 else f"{mean:.1f}"


def write(console: Console, groups: Mapping[str, Sequence[RunResult]], figures: Sequence[Path], store: Path) -> None:
    """Print a table a strategy, and where the figures and the runs are."""
    for label, results in groups.items():
        console.print(strategy_table(label, results))
    for path in figures:
        console.print(f"figure: {path}", soft_wrap=True, highlight=False)
    console.print(f"runs:   {store}", soft_wrap=True, highlight=False)


def as_json(results: Sequence[RunResult], figures: Sequence[Path], store: Path) -> dict[str, Any]:
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
                "train_seconds": r.train_seconds,
                "eval_seconds": r.eval_seconds,
                "diagnostics": r.diagnostics,
            }
            for r in results
        ],
        "figures": [str(path) for path in figures],
        "store": str(store),
    }
