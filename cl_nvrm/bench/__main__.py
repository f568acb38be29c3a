"""The command line of the bench."""

import json
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from cl_nvrm.errors import Parser, exit_code, leave, note

if TYPE_CHECKING:
    from cl_nvrm.bench.timing import Row

# Small measurements first; those that start processes of their own last.
SUBJECTS = ("step", "penalties", "fisher", "networks", "whole_run", "stacking", "commands")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; return the exit code."""
    return exit_code(lambda: _bench(argv))


def _bench(argv: Sequence[str] | None) -> int:
    parser = Parser(prog="python -m cl_nvrm.bench", description="Measure speed as ratios, side by side.")
    parser.add_argument("--subject", action="append", choices=SUBJECTS, help="measure this only; repeat for more")
    parser.add_argument("--quick", action="store_true", help="a first impression, in under 90 seconds")
    parser.add_argument("--data", default="auto", help="data set; auto: MNIST, or the embedded digits (default: auto)")
    parser.add_argument("--data-dir", type=Path, help="folder of data sets")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, … (default: cpu)")
    parser.add_argument("--out", type=Path, default=Path("reports/bench.json"), help="where the numbers go")
    given = parser.parse_args(argv)

    import torch
    from rich.console import Console

    from cl_nvrm import data
    from cl_nvrm.bench.timing import Row, Setting
    from cl_nvrm.training.provenance import provenance

    stderr = Console(stderr=True)
    name = data.load(given.data, folder=given.data_dir, warn=note).name
    setting = Setting(name, given.data_dir, given.device, given.quick)
    rows: list[Row] = []
    given.out.parent.mkdir(parents=True, exist_ok=True)
    about = {"data": name, "device": given.device, "quick": given.quick, "threads": torch.get_num_threads()}
    for subject in given.subject or SUBJECTS:
        start = time.monotonic()
        rows += import_module(f"cl_nvrm.bench.{subject}").measure(setting)
        stderr.print(f"{subject}: measured in {time.monotonic() - start:.0f} s", highlight=False)
        # After each subject, so that stopping a long measurement loses one of them at most.
        content = {"schema": 1, **about, **provenance(), "rows": [row.plain() for row in rows]}
        given.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    _show(rows)
    return 0


def _show(rows: "list[Row]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("subject", "ratio", "median", "quartiles", "n", "medians", "goal", "")
    for row in rows:
        goal = f"≤ {row.most:g}" if row.most is not None else f"≥ {row.least:g}" if row.least is not None else ""
        table.add_row(
            row.subject,
            row.what,
            f"{row.ratio:.3f}",
            f"{row.low:.3f} to {row.high:.3f}",
            str(row.n),
            f"{row.first:.3g} / {row.second:.3g} {row.unit}",
            goal,
            {True: "met", False: "missed", None: ""}[row.met],
        )
    console = Console()
    (console if console.is_terminal else Console(width=150)).print(table)


if __name__ == "__main__":
    leave(main())
