"""``python -m cl_nvrm.study``: train what a study needs and is not stored yet, and draw its figures."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cl_nvrm.errors import Parser, UserError, exit_code, leave
from cl_nvrm.study.definitions import SCALES, Study
from cl_nvrm.study.studies import GROUPS

FOLDER = Path("reports/studies")


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out the studies named and return the exit code."""
    from cl_nvrm.run.execute import GOES_ON

    return exit_code(lambda: _study(argv), goes_on=GOES_ON.format(""))


def _study(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    if arguments.write:
        return _write()
    more = _for_the_runs(arguments)
    chosen = _chosen(arguments.names)
    deaf = [name for name, (_, study) in chosen.items() if not study.parts]
    if arguments.names and more and set(more) != {"--quiet"} and len(deaf) == len(chosen):
        raise UserError(f"{deaf[0]} computes what it shows, and takes none of {' '.join(more)}")

    from cl_nvrm.run.execute import outcome
    from cl_nvrm.study.conduct import conduct

    results = []
    for name, (group, study) in chosen.items():
        print(f"{name}: {study.asks}", file=sys.stderr)
        results += conduct(name, study, arguments.scale, _folder(arguments, name, group, study), more)
    return outcome(results)


def _write() -> int:
    """Write the numbers of all pages anew from the stored runs; say where a sentence of a claim is missing."""
    from cl_nvrm.study.claims import check

    problems = check(FOLDER.parent, write=True)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _parser() -> Parser:
    listed = "\n\n".join(
        "\n".join([f"{group}:", *(f"  {name:24}{study.asks}" for name, study in studies.items())])
        for group, studies in GROUPS.items()
    )
    parser = Parser(
        prog="python -m cl_nvrm.study",
        description="Train what a study needs, skip what is stored, draw its figures.",
        epilog=listed,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="STUDY", help="studies, or groups of them, by name (default: all)")
    parser.add_argument("--scale", choices=SCALES, default="small",
                        help="paper: the full recipe; small: four cores; smoke: to see it run (default: small)"
                        )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"folder of runs and figures (default: {FOLDER}/GROUP/SCALE)"
    )
    parser.add_argument(
        "--write", action="store_true", help="write the numbers of README and reports anew from the runs; train nothing"
    )
    as_in = "as for python -m cl_nvrm.run"
    for flag in ("--trials", "--epochs", "--jobs", "--device", "--precision", "--data-dir"):
        parser.add_argument(flag, help=as_in)
    for flag in ("--channels-last", "--compile", "--quiet"):
        parser.add_argument(flag, action="store_true", help=as_in)
    return parser


def _for_the_runs(arguments: argparse.Namespace) -> list[str]:
    """Return the flags that are handed on to the main command, as words."""
    return [
        word
        for name, value in vars(arguments).items()
        if name not in ("names", "scale", "out", "write") and value not in (None, False)
        for word in (f"--{name.replace('_', '-')}", *([] if value is True else [value]))
    ]


def _chosen(names: Sequence[str]) -> dict[str, tuple[str, Study]]:
    """Return the studies meant, each with its group; all, if none is named."""
    every = {name: (group, study) for group, studies in GROUPS.items() for name, study in studies.items()}
    chosen: dict[str, tuple[str, Study]] = {}
    for name in names or GROUPS:
        if name not in every and name not in GROUPS:
            raise UserError(f"No study '{name}'; there are {', '.join([*GROUPS, *every])}")
        chosen |= {one: every[one] for one in GROUPS.get(name, (name,))}
    return chosen


def _folder(arguments: argparse.Namespace, name: str, group: str, study: Study) -> Path:
    """Return where a study's runs and figures lie; figures of the main command need a folder for each study."""
    folder: Path = arguments.out or FOLDER / group / arguments.scale
    if not study.parts or study.figure:
        return folder
    return FOLDER / study.store if arguments.out is None and arguments.scale == "small" else folder / name


if __name__ == "__main__":
    leave(main())
