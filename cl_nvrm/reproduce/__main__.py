"""``python -m cl_nvrm.reproduce``: run what was published, and say whether we get the same numbers."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cl_nvrm.errors import Parser, UserError, exit_code, leave, number

if TYPE_CHECKING:
    from cl_nvrm.reproduce.conduct import Planned
    from cl_nvrm.reproduce.outcome import Outcome

FOLDER = Path("reports/reproduce")
HANDED_ON = ("jobs", "device", "data_dir")  # to the main command, as they are


def main(argv: Sequence[str] | None = None) -> int:
    """Reproduce the targets named and return the exit code; a row that differs is no error."""
    from cl_nvrm.run.execute import GOES_ON

    return exit_code(lambda: _reproduce(_parser().parse_args(argv)), goes_on=GOES_ON.format(""))


def _parser() -> Parser:
    from cl_nvrm.reproduce.listing import about, names

    listed = "\n".join(f"  {name:24}{about(name)}" for name in names())
    parser = Parser(
        prog="python -m cl_nvrm.reproduce",
        description="Run published experiments and compare: published, ours, difference, 99 % interval, verdict.",
        epilog=f"targets:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole = number(int, 1)
    parser.add_argument("names", nargs="*", metavar="TARGET", help="targets by name (default: list them)")
    parser.add_argument(
        "--rows",
        action="append",
        default=[],
        metavar="TEXT",
        help="only rows with this in their name; may be repeated",
    )
    parser.add_argument("--quick", action="store_true", help="only the rows that two cores train in ten minutes")
    parser.add_argument("--seeds", type=whole, default=0, metavar="N", help="runs a row (default: as the target says)")
    parser.add_argument(
        "--cut",
        type=whole,
        default=0,
        metavar="N",
        help="stop after N tasks; only numbers published of these",
    )
    parser.add_argument("--dry-run", action="store_true", help="say how long each row takes, and train nothing")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"folder of runs, table and figure (default: {FOLDER}/TARGET)"
    )
    for name in HANDED_ON:
        parser.add_argument(f"--{name.replace('_', '-')}", help="as for python -m cl_nvrm.run")
    parser.add_argument("--format", choices=["table", "json"], default="table", help="what stdout gets")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return parser


def _reproduce(arguments: argparse.Namespace) -> int:
    from cl_nvrm.reproduce.listing import about, names, target

    if not arguments.names:
        for name in names():
            print(f"{name:24}{about(name)}")
        return 0
    if arguments.out and len(arguments.names) > 1:
        raise UserError("--out is for one target; name one, or leave it out")
    found = {name.replace("_", "-"): target(name) for name in arguments.names}

    from rich.console import Console

    from cl_nvrm.reproduce.conduct import chosen, plan_rows, run_rows, stored_rows
    from cl_nvrm.reproduce.outcome import as_json, outcome
    from cl_nvrm.run.execute import outcome as code_of

    more = [word for name in HANDED_ON if (value := getattr(arguments, name)) for word in _flag(name, value)]
    more += ["--quiet"] * arguments.quiet
    asked = {
        name: plan_rows(
            each,
            chosen(each, texts=arguments.rows, quick=arguments.quick, cut=arguments.cut),
            arguments.seeds,
            arguments.cut,
            (arguments.out or FOLDER / name) / "runs",
            more,
        )
        for name, each in found.items()
    }
    results, outcomes = [], []
    for name, planned in asked.items():
        each, folder = found[name], arguments.out or FOLDER / name
        if arguments.dry_run:
            _tell(name, planned)
            continue
        by_row = run_rows(planned, Console(stderr=True))
        results += [result for row in by_row.values() for result in row]
        outcomes.append(outcome(name, each, by_row))
        others = [row for row in chosen(each, texts=(), quick=False, cut=arguments.cut) if row.name not in by_row]
        if others:  # what an earlier command has found stays in the files
            silent = plan_rows(each, others, 0, arguments.cut, folder / "runs", more, lambda text: None)
            by_row |= stored_rows(silent)
        written = _write(outcome(name, each, by_row), folder)
        if arguments.format == "table":
            _show(outcomes[-1], written)
    if arguments.format == "json" and not arguments.dry_run:
        print(json.dumps([as_json(each) for each in outcomes], allow_nan=False))
    return code_of(results)


def _flag(name: str, value: str) -> tuple[str, str]:
    return f"--{name.replace('_', '-')}", value


def _tell(name: str, planned: "Planned") -> None:
    """Print how long each row takes, one run after the other."""
    from cl_nvrm.run.execute import workers_of
    from cl_nvrm.sweep import estimate
    from cl_nvrm.sweep.store import Store

    stored = {r.id: r for r in Store(planned.arguments.out).results()}
    to_do = [spec for spec in planned.plan.specs if spec.id not in stored]
    jobs, threads = workers_of(planned.arguments, planned.plan.device).for_runs(len(to_do))
    seconds = estimate.seconds(to_do, list(stored.values()), planned.arguments.data_dir, planned.plan.device, threads)
    print(f"{name}:")
    for row, specs in planned.specs.items():
        left = [seconds[spec.id] for spec in specs if spec.id in seconds]
        state = f"{len(left)} of {len(specs)} to do, {estimate.duration(sum(left))}" if left else "stored"
        print(f"  {row:32}{state}")
    total = estimate.duration(sum(seconds.values()) / max(1, jobs))
    print(f"  {len(to_do)} of {len(planned.plan.specs)} runs to do, {total} with {jobs} at once")


def _write(found: "Outcome", folder: Path) -> list[Path]:
    """Write an outcome's table, numbers and figure, and return the files."""
    from cl_nvrm.report.export import markdown_tables
    from cl_nvrm.report.save import save
    from cl_nvrm.reproduce.figure import figure
    from cl_nvrm.reproduce.outcome import as_json, tables

    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "table.md").write_text(markdown_tables(tables(found)), encoding="utf-8")
        text = json.dumps(as_json(found), indent=1, ensure_ascii=False, allow_nan=False)
        (folder / "result.json").write_text(text + "\n", encoding="utf-8")
    except OSError as problem:
        raise UserError(f"Cannot write to {folder} ({problem.strerror}); name another --out") from problem
    paths = save({"figure": figure(found)}, folder) if any(each.verdict for each in found.rows) else []
    return [folder / "table.md", folder / "result.json", *paths]


def _show(found: "Outcome", written: Sequence[Path]) -> None:
    """Print an outcome's table, and which files there are."""
    from rich.console import Console

    from cl_nvrm.report.terminal import render
    from cl_nvrm.reproduce.outcome import tables

    console = Console()
    console = console if console.is_terminal else Console(width=160)
    for table in tables(found):
        if table.name != "commands":  # too wide, and in the file
            console.print(render(table))
    for path in written:
        console.print(f"written: {path}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    leave(main())
