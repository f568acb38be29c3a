"""``python -m cl_nvrm.perturb``: what weight noise does to the networks of stored runs.

``Perturbation`` and ``weight_noise`` can be imported from here, too; they live in ``cl_nvrm.noise``.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cl_nvrm.errors import Parser, UserError, exit_code, leave

if TYPE_CHECKING:
    from cl_nvrm.noise import Perturbation, weight_noise

__all__ = ["Perturbation", "main", "weight_noise"]
LARGEST = 1000  # beyond, losses overflow


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is asked for: ``--help`` does without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cl_nvrm import noise

    return getattr(noise, name)


def main(argv: Sequence[str] | None = None) -> int:
    """Ask, print, and return the exit code."""
    return exit_code(lambda: _ask_all(_parser().parse_args(argv)))


def _parser() -> Parser:
    parser = Parser(
        prog="python -m cl_nvrm.perturb",
        description="Accuracy and loss of stored networks under weight noise, (b, δ) neural variability, expected "
        "sharpness, generalisation gap and PAC-Bayes bound. Answers are kept in the folder.",
    )
    parser.add_argument("words", nargs="*", metavar="FOLDER or FILTER",
                        help="a folder of runs made with --keep-weights (default: reports/runs), and which of them: "
                        "strategy=ewc* 'lr<1e-3' since=7d (python -m cl_nvrm.runs --help says more)")  # fmt: skip
    parser.add_argument("--run", action="append", default=[], metavar="ID", help="one run of it; repeat for more")
    parser.add_argument("--scales", type=_scales, default=_scales("0|0.01|0.02|0.04|0.08|0.16"), metavar="A|B|…",
                        help="scales of the noise (default: 0|0.01|0.02|0.04|0.08|0.16)")  # fmt: skip
    parser.add_argument("--draws", type=int, default=10, help="draws of the noise a scale (default: 10)")
    parser.add_argument("--noise", default="gaussian", choices=["gaussian", "laplace", "uniform"], help="its law")
    parser.add_argument("--relative", action="store_true", help="scales are shares of each layer's size")
    parser.add_argument("--b", type=float, default=0.01, help="scale b of definition 1 and the bound; 0: neither")
    parser.add_argument("--weight-decay", type=float, default=1e-4, help="of the bound's prior (default: 1e-4)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder of data sets")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, … (default: auto)")
    parser.add_argument("--format", choices=["table", "json"], default="table", help="what stdout gets")
    return parser


def _scales(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split("|"))
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"must be numbers joined by |, got '{text}'") from problem


def _ask_all(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from cl_nvrm.spec.cell_names import cell_names
    from cl_nvrm.sweep import filters
    from cl_nvrm.sweep.probes import Questions, ask, runs_of
    from cl_nvrm.sweep.store import Store
    from cl_nvrm.training.device import find_device

    if arguments.draws < 2:
        raise UserError(f"--draws must be at least 2, got {arguments.draws}")
    if not all(0 <= scale <= LARGEST for scale in arguments.scales):
        raise UserError(f"--scales must be numbers from 0 to {LARGEST}, joined by |")
    if not (0 <= arguments.b <= LARGEST and 0 < arguments.weight_decay < math.inf):
        raise UserError("--b must be at least 0 and --weight-decay above 0")
    if not 0 <= arguments.seed < 2**63:
        raise UserError("--seed must be a whole number of at least 0, below 2^63")
    words = filters.read(arguments.words, ids=False)
    if len(words.folders) > 1:
        raise UserError(f"perturb takes one folder, got {', '.join(map(str, words.folders))}")
    store, device = Store(words.folders[0]), find_device(arguments.device)
    questions = Questions(
        arguments.scales, arguments.draws, arguments.noise, arguments.relative, arguments.b, arguments.weight_decay,
        arguments.seed,
    )  # fmt: skip
    results = runs_of(store, arguments.run, words)
    names = cell_names(result.spec for result in results)
    console, told = Console(), []
    for result in results:
        answers = ask(store, result, questions, arguments.data_dir, device)
        told.append({"name": names[result.spec.cell], "seed": result.spec.seed, **asdict(answers)})
        if arguments.format == "json":
            continue
        table = Table(title=f"{names[result.spec.cell]}, seed {result.spec.seed}", title_justify="left")
        for heading in ("noise", "accuracy (%)", "95 % CI over draws", "loss"):
            table.add_column(heading, justify="right")
        for draws in answers.curve:
            low, high = draws.accuracy_interval
            ends = f"{100 * low:.1f} to {100 * high:.1f}" if draws.n > 1 else ""
            table.add_row(f"{draws.scale:g}", f"{100 * draws.accuracy:.1f}", ends, f"{draws.loss:.4g}")
        console.print(table)
        about = answers.training
        console.print(f"generalisation gap: {100 * about['generalisation_gap']:.1f} points", highlight=False)
        if "b" in about:
            delta, error = about["delta"], about["delta_standard_error"]
            console.print(f"(b, δ) neural variability: b = {about['b']:g}, δ = {delta:.4g} ± {error:.2g} (standard "
                          "error), training loss", highlight=False)  # fmt: skip
            console.print(f"PAC-Bayes: {about['bound']['sentence']}", highlight=False)
    if arguments.format == "json":
        print(json.dumps(told))
    return 0


if __name__ == "__main__":
    leave(main())
