"""The command line of the runs."""

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from cl_nvrm.errors import Parser, UserError, exit_code, leave, number

WORDS = """
WORDS are folders of runs (default: reports/runs), runs by the first digits of their ids, and filters, all of which must
hold: strategy=ewc* 'lr<1e-3' lambda=10|100 benchmark=split-mnist:tasks=5 seed=3 status=failed since=7d
until=2026-10-01 'ACC>90' weights=yes. Any parameter of a strategy, benchmark, optimizer, schedule or network is a key,
alone or as ewc:lambda. < and > must be quoted."""
COMMANDS = {
    "list": "a line a run, the newest last; also what is done without a command",
    "show": "settings, results, provenance and files of runs, and how to load their weights",
    "compare": "runs side by side, or what is chosen by filters setting by setting, with tests",
    "export": "tidy CSV, JSON or Parquet",
    "move": "to another folder of runs; nothing is written over",
    "delete": "with all that belongs to them; lists them and asks first",
    "check": "damaged, foreign and orphaned files; exit code 1 if there are any",
    "disk": "the space that runs take, by kind of file",
}
CARRIED_OUT_BY = {
    "list": "listing.list_runs",
    "show": "show.show",
    "compare": "compare.compare",
    "export": "export.export",
    "move": "change.move",
    "delete": "change.delete",
    "check": "condition.check",
    "disk": "condition.disk",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out a command and return its exit code; errors a user can cause become one line on stderr."""
    return exit_code(lambda: _main(list(sys.argv[1:] if argv is None else argv)))


def _main(words: list[str]) -> int:
    if not words or words[0] not in (*COMMANDS, "-h", "--help", "--version"):
        if words and (near := difflib.get_close_matches(words[0], COMMANDS)) and not Path(words[0]).is_dir():
            raise UserError(f"there is no command '{words[0]}', and no such folder; did you mean {near[0]}?")
        words = ["list", *words]
    arguments = _parser().parse_args(words)
    if arguments.command is None:  # only by "--" before a command
        raise UserError(f"write a command first: {', '.join(COMMANDS)}")
    module, _, function = CARRIED_OUT_BY[arguments.command].partition(".")
    carry_out: Callable[[argparse.Namespace], int] = getattr(import_module(f"cl_nvrm.runs.{module}"), function)
    return carry_out(arguments)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m cl_nvrm.runs",
        description="Look after stored runs: list, show, compare, export, move, delete and check them.",
        epilog=WORDS,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, does in COMMANDS.items():
        one = commands.add_parser(name, help=does, description=f"{name}: {does}.", epilog=WORDS)
        one.add_argument("words", nargs="*", metavar="WORDS", help="folders, ids and filters, as below")
        if name == "list":
            one.add_argument("--sort", metavar="KEY", help="any key of a filter (default: time)")
            one.add_argument("--last", type=number(int, 1), metavar="N", help="only the last N lines")
        if name == "export":
            one.add_argument("--format", choices=["csv", "json", "parquet"], default="csv", help="default: csv")
            one.add_argument("--rows", choices=["run", "accuracy", "trace", "curve"], default="run",
                             help="one row a run (default), or a number: accuracy after each task, while training, "
                             "after each epoch")  # fmt: skip
            one.add_argument("--out", type=Path, metavar="FILE", help="where to (default: stdout)")
        elif name in ("move", "delete"):
            one.add_argument("--dry-run", action="store_true", help="list them and stop")
        else:
            one.add_argument("--format", choices=["table", "json"], default="table", help="what stdout gets")
        if name == "move":
            one.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="where to; made if need be")
        if name == "delete":
            one.add_argument("--yes", action="store_true", help="do not ask")
    return parser


if __name__ == "__main__":
    leave(main())
