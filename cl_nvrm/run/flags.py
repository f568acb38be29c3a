"""The flags of ``python -m cl_nvrm.run``."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_args

from cl_nvrm.errors import Parser, UserError, number
from cl_nvrm.spec import Precision, catalog

MOST_TASKS = 10_000
TRACKERS = ("tensorboard", "wandb", "csv")
OUT = Path("reports/runs")


@dataclass(frozen=True)
class Arguments:
    """The parsed command line; None, for a number, means the benchmark's recipe.

    ``flags`` are the bare flags left for strategies and benchmark, such as ``lambda``, with their values as written.
    """

    strategy: list[str]
    benchmark: str
    trials: int
    seed: int
    tasks: int | None
    epochs: int | None
    iterations: int | None
    batch_size: int | None
    lr: list[float] | None
    optimizer: str | None
    weight_decay: float | None
    schedule: str | None
    precision: str
    channels_last: bool
    compile: bool
    eval_every: int
    frontier: Path | None
    levels: list[float] | None
    slack: float
    primary: list[str]
    margin: float
    tune: int
    tune_tasks: int
    tune_seeds: int
    tune_searches: int
    tune_on: str | None
    data: str
    data_dir: Path | None
    device: str
    jobs: int
    stack: str
    backend: str
    scheduler: str | None
    out: Path
    keep_weights: bool
    track: list[str]
    wait: bool
    fresh: bool
    dry_run: bool
    plots: bool
    format: str
    list: str | None
    quiet: bool
    flags: dict[str, str]

    @classmethod
    def flag_names(cls) -> Sequence[str]:
        """The names of the flags that are not a strategy's or a benchmark's."""
        return [f.name for f in fields(cls) if f.name != "flags"]


def parse(argv: Sequence[str]) -> Arguments:
    """Parse a command line; UserError for a flag's value that is none."""
    known, rest = _parser().parse_known_args([_with_dashes(word) for word in argv])
    values = vars(known)
    if values["frontier"] and (values["strategy"] or values["lr"] or values["tune"]):
        raise UserError(
            "--frontier chooses strategies and learning rates itself; leave out --strategy, --lr and --tune"
        )
    if values["levels"] and not all(1 < level <= 100 for level in values["levels"]):
        raise UserError("--levels are accuracies in %, above 1 and at most 100, as 95|96.5")
    for name in ("levels", "slack"):
        if values[name] and not values["frontier"]:
            raise UserError(f"--{name} is for --frontier; write that, too, or neither")
    if values["levels"] and values["slack"]:
        raise UserError("--slack finds settings to run more seeds of, --levels compares them; write one of them")
    values["slack"] = values["slack"] or 0.0
    values["strategy"] = values["strategy"] or ["naive"]
    values["primary"] = list(dict.fromkeys(values["primary"] or []))
    values["track"] = list(dict.fromkeys(values["track"] or []))
    for name, default in (("tune_tasks", MOST_TASKS), ("tune_seeds", 3), ("tune_searches", 1), ("tune_on", None)):
        if values[name] is not None and not values["tune"]:
            raise UserError(f"--{name.replace('_', '-')} is for --tune; write that, too, or neither")
        values[name] = values[name] or default
    if values["tune"] and not values["wait"]:
        raise UserError("--no-wait is not for --tune: a search goes on from the results of all its runs")
    if values["epochs"] and values["iterations"]:
        raise UserError("--epochs and --iterations both say how long a task is trained; write one of them")
    return Arguments(**values, flags=_bare_flags(rest))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m cl_nvrm.run",
        description="Train strategies on a continual-learning benchmark; show what they remember after each task.",
        epilog="Any parameter of a chosen strategy is a flag, too: --strategy ewc+nvrm --lambda 100 is the same as "
        "--strategy ewc:lambda=100+nvrm. So is any of the benchmark's that no chosen strategy has: --model ioc-mlp.",
        allow_abbrev=False,
    )
    named = {kind: ", ".join(catalog.names(kind)) for kind in ("strategies", "benchmarks", "optimizers", "schedules")}
    whole, positive = number(int, 0), number(int, 1)
    of_recipe = "default: the benchmark's recipe"

    def add(flag: str, help: str, **options: object) -> None:
        shown = options.get("default")
        suffix = f" (default: {shown})" if shown is not None and options.get("action") != "store_false" else ""
        parser.add_argument(flag, help=help + suffix, **options)  # type: ignore[arg-type]

    add(
        "--strategy",
        "name:key=value,… joined by +; key=a|b|c stands for three; repeat the flag to compare. "
        f"Names: {named['strategies']} (default: naive)",
        action="append",
        metavar="NAME[+NAME]",
    )
    add("--benchmark", f"name:key=value,… Names: {named['benchmarks']}", default="permuted-mnist", metavar="NAME")
    add("--trials", "number of runs a strategy, with consecutive seeds", type=positive, default=1)
    add("--seed", "seed of the first trial", type=whole, default=0)
    add("--tasks", f"number of tasks ({of_recipe})", type=positive)
    add("--epochs", f"epochs a task ({of_recipe})", type=positive)
    add("--iterations", "steps a task, in the place of epochs", type=positive)
    add("--batch-size", f"training images a step ({of_recipe})", type=positive)
    add("--lr", f"learning rate, or several as a|b|c ({of_recipe})", type=_several(number(float, 0)))
    add("--optimizer", f"name:key=value,… Names: {named['optimizers']} ({of_recipe})", metavar="NAME")
    add("--weight-decay", f"weight decay ({of_recipe})", type=number(float, 0))
    add(
        "--schedule",
        f"of the learning rate, name:key=value,… Names: {named['schedules']} ({of_recipe})",
        metavar="NAME",
    )
    add("--precision", "number format of the network", choices=get_args(Precision), default="float32")
    add("--channels-last", "lay images out with their channels last", action="store_true")
    add("--compile", "compile the network (torch.compile)", action="store_true")
    add("--eval-every", "also evaluate every that many iterations; 0: after each task only", type=whole, default=0)
    add(
        "--frontier",
        "run the settings that each method's frontier is made of among the runs in this folder, and compare what they "
        "keep at equal plasticity; in the place of --strategy and --lr",
        type=Path,
        metavar="DIR",
    )
    add(
        "--levels",
        "accuracies on a task just learned, in %%, as a|b|c, at which to compare (default: five, from the runs in DIR)",
        type=_several(number(float, 0)),
    )
    add(
        "--slack",
        "points below the frontier up to which settings are run again, for more seeds to choose by; without --levels "
        "(default: 0, those on it, to be compared)",
        type=number(float, 0),
        metavar="POINTS",
    )
    add(
        "--primary",
        "a contrast named before the runs, 'A - B' or 'A - B: METRIC', which is tested by itself; may be repeated",
        action="append",
        metavar="TEXT",
    )
    add(
        "--margin",
        "points below which a difference is of no interest: margin of the test of equivalence",
        type=number(float, 1e-6),
        default=1.0,
        metavar="POINTS",
    )
    add("--tune", "choose lr and strengths on held-out images, with so many trials a strategy", type=whole, default=0)
    add("--tune-tasks", "number of first tasks a tuning trial trains on (default: all)", type=positive)
    add("--tune-seeds", "runs a tuning trial (default: 3)", type=positive)
    add(
        "--tune-searches",
        "independent searches a strategy, all but the first from a random start; the best of all is taken, and how far "
        "they lie apart is told (default: 1)",
        type=positive,
    )
    add("--tune-on", "another data set to choose on, by name (default: held-out images of --data)", metavar="NAME")
    add("--data", "data set by name; auto: the benchmark's own, or the embedded digits", default="auto", metavar="NAME")
    add("--data-dir", "folder of data sets, before CL_NVRM_DATA and the cache", type=Path, metavar="DIR")
    add("--device", "auto, cpu, cuda, cuda:1, …", default="auto")
    add(
        "--stack", "train a strategy's trials as one run; auto: on a GPU", choices=["auto", "on", "off"], default="auto"
    )
    add("--jobs", "worker processes; auto: one a processor, at most one a run", type=_jobs, default="auto")
    add("--backend", "where they run", choices=["processes", "loky", "dask", "ray"], default="processes")
    add("--scheduler", "address of the Dask scheduler or the Ray head", metavar="ADDRESS")
    add(
        "--no-wait",
        "leave runs that another command is at to that command, as the tasks of a job array do",
        dest="wait",
        action="store_false",
    )
    add("--out", "folder of the results", type=Path, default=OUT, metavar="DIR")
    add("--keep-weights", "keep each run's final weights beside its result", action="store_true")
    add("--track", "hand finished runs on; repeat for more", choices=TRACKERS, action="append")
    add("--fresh", "train again what is stored already", action="store_true")
    add("--dry-run", "show the runs and stop", action="store_true")
    add("--no-plots", "draw no figures", dest="plots", action="store_false")
    add("--format", "what stdout gets", choices=["table", "json"], default="table")
    add("--list", "list what there is, with parameters and defaults, and stop", choices=list(catalog.KINDS))
    add("--quiet", "no progress on stderr", action="store_true")
    return parser


def _with_dashes(word: str) -> str:
    """Let a flag's name be written with underscores."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def _bare_flags(rest: Sequence[str]) -> dict[str, str]:
    flags: dict[str, str] = {}
    words = list(rest)
    while words:
        word = words.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise UserError(f"'{word}' belongs to no flag; values follow their flag, as in --lambda 100")
        if not equals:
            if not words or words[0].startswith("--"):
                raise UserError(f"No flag --{name}, or its value is missing; --help lists the flags")
            value = words.pop(0)
        if name.replace("-", "_") in flags:
            raise UserError(f"--{name} is given twice")
        flags[name.replace("-", "_")] = value
    return flags


def _several(read: Callable[[str], float]) -> Callable[[str], list[float]]:
    return lambda text: list(dict.fromkeys(read(part) for part in text.split("|")))


def _jobs(text: str) -> int:
    return 0 if text == "auto" else int(number(int, 1)(text))
