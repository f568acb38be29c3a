"""Export: runs as tidy rows, one a run or one a number, in CSV, JSON or Parquet."""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cl_nvrm.errors import UserError, note
from cl_nvrm.runs.listing import as_json
from cl_nvrm.sweep.contents import StoredRun
from cl_nvrm.sweep.filters import read, select

Row = dict[str, Any]


def export(arguments: argparse.Namespace) -> int:
    """Write the runs that words mean as rows, and return 0."""
    if arguments.format == "parquet" and arguments.out is None:
        raise UserError("--format parquet is not for a terminal; write --out FILE, too")
    runs = select(read(arguments.words))
    rows = [row for run in runs for row in tidy(run, arguments.rows)]
    if not rows:
        note(f"no rows: {'no run is' if not runs else 'the runs have nothing of what is'} meant by that")
    if arguments.format == "parquet":
        _parquet(rows, arguments.out)
        return 0
    text = json.dumps(rows, indent=1) + "\n" if arguments.format == "json" else _csv(rows)
    if arguments.out is None:
        sys.stdout.write(text)
    else:
        _write(arguments.out, text)
    return 0


def tidy(run: StoredRun, rows: str = "run") -> Iterator[Row]:
    """Yield a run's rows: one of all its settings and metrics, or one for each number that ``rows`` names.

    Settings are columns by their names, parameters by theirs (``ewc:lambda``); accuracies and metrics are in percent;
    tasks, iterations and epochs count from 1.
    """
    told = as_json(run)
    about = {key: told[key] for key in ("id", "folder", "status", "when")} | told["spec"] | told["settings"]
    if rows == "run":
        yield about | {key: value for key, value in told.items() if key not in (*about, "spec", "settings", "problem")}
    elif run.result is None:
        return
    elif rows == "accuracy":
        for after, row in enumerate(run.result.accuracy, 1):
            for task, share in enumerate(row, 1):
                yield about | {"after_task": after, "task": task, "accuracy": 100 * share}
    elif rows == "trace":
        for during, iteration, row in run.result.trace:
            for task, share in enumerate(row, 1):
                yield about | {"during_task": during + 1, "iteration": iteration, "task": task, "accuracy": 100 * share}
    else:
        for name, shares in run.result.curves.items():
            for epoch, share in enumerate(shares, 1):
                yield about | {"curve": name, "epoch": epoch, "value": 100 * share}


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    if rows:
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _parquet(rows: Sequence[Row], path: Path) -> None:
    import pandas as pd

    try:
        pd.DataFrame(rows).to_parquet(path, index=False)
    except ImportError:
        raise UserError("--format parquet needs pandas' engine for it: pip install pyarrow; or write csv") from None
    except OSError as problem:
        raise UserError(f"Cannot write {path} ({problem.strerror or problem}); name another --out") from problem


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise UserError(f"Cannot write {path} ({problem.strerror}); name another --out") from problem
