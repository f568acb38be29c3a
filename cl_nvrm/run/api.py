"""The package from Python: ``cl_nvrm.run(…)``, ``cl_nvrm.load(…)`` and the lists of what there is.

The command line is another face of the same: both ask ``run/execute`` for what its flags, or these keywords, say.
"""

from collections.abc import Iterable, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cl_nvrm.errors import MissingData, UserError, note
from cl_nvrm.run import keywords
from cl_nvrm.run.flags import OUT, parse
from cl_nvrm.run.listing import Listing, listing
from cl_nvrm.spec import RunSpec, folders

if TYPE_CHECKING:
    from cl_nvrm.run.results import Results

Number = int | float
Values = Any  # of a parameter: a number or a text, or several of them


def run(
    strategy: str | Sequence[str] | RunSpec | None = None,
    *,
    benchmark: str = "permuted-mnist",
    trials: int = 1,
    seed: int = 0,
    tasks: int | None = None,
    epochs: int | None = None,
    iterations: int | None = None,
    batch_size: int | None = None,
    lr: Number | Iterable[Number] | None = None,
    optimizer: str | None = None,
    weight_decay: Number | None = None,
    schedule: str | None = None,
    precision: str = "float32",
    channels_last: bool = False,
    compile: bool = False,
    eval_every: int = 0,
    frontier: str | Path | None = None,
    levels: Iterable[Number] | None = None,
    slack: Number | None = None,
    primary: str | Sequence[str] = (),
    margin: Number = 1.0,
    tune: int = 0,
    tune_tasks: int | None = None,
    tune_seeds: int | None = None,
    tune_searches: int | None = None,
    tune_on: str | None = None,
    data: str = "auto",
    data_dir: str | Path | None = None,
    device: str = "auto",
    jobs: int | str = "auto",
    stack: str = "auto",
    backend: str = "processes",
    scheduler: str | None = None,
    out: str | Path | None = None,
    keep_weights: bool = False,
    track: str | Sequence[str] = (),
    wait: bool = True,
    fresh: bool = False,
    quiet: bool = False,
    check: bool = True,
    **parameters: Values,
) -> "Results":
    """Train strategies on a benchmark, taking from the store what is there, and return the results.

    Keywords are the flags of ``python -m cl_nvrm.run``, with the same meaning and defaults; ``parameters`` are those of
    the strategies or the benchmark: ``lambda_=100``. A list is a grid: ``lr=[3e-4, 1e-3]``, ``lambda_=[10, 100]``;
    several strategies are compared, on the same seeds. ``strategy`` (default: ``naive``, plain training) may also be a
    ``RunSpec``, which says the rest itself. ``out`` (default: ``reports/runs`` of the present folder) is where runs are
    stored, and taken from. Progress goes to stderr, unless ``quiet``.

    Nothing is trained or written before all is checked: UserError says what to write instead, MissingData where a data
    set was looked for. With ``check``, Diverged or Failed is raised at the end if a run did; the results, which are
    stored, too, are in its attribute ``results``.
    """
    asked = dict(locals())  # the first thing here, so it is the arguments
    del asked["check"], asked["parameters"]
    with keywords.said_in_python():
        if isinstance(strategy, RunSpec):
            asked |= _said_by_spec(strategy, asked)
        results = _carried_out(keywords.words(asked | parameters), strategy)
    if check:
        results.check()
    return results


def _said_by_spec(spec: RunSpec, asked: dict[str, Any]) -> dict[str, Any]:
    said = keywords.of_spec(spec)
    for name in said.keys() - {"strategy"}:
        if repr(asked[name]) != repr(signature(run).parameters[name].default):
            raise UserError(f"a spec says what its {name} is; leave that out, or change it with dataclasses.replace")
    return said


def _carried_out(words: Sequence[str], asked: object) -> "Results":
    arguments = parse(words)

    from cl_nvrm.run.execute import conduct, prepare

    planned = prepare(arguments)
    fingerprint = planned.specs[0].dataset_sha256
    if isinstance(asked, RunSpec) and asked.dataset_sha256 not in ("", fingerprint):
        raise MissingData(f"'{asked.dataset}' is not what this spec was made of: its fingerprint is {fingerprint} here")
    return conduct(arguments, planned)


def load(folder: str | Path = OUT) -> "Results":
    """Return the results of all runs stored in a folder; a file that is no result is named in a note on stderr.

    UserError if the folder is not there, or has no runs.
    """
    from cl_nvrm.run.results import stored

    return stored(Path(folder))


def strategies() -> Listing:
    """Return what strategies there are, by name, with summary, parameters, defaults and choices."""
    return listing_of("strategies")


def benchmarks() -> Listing:
    """Return what benchmarks there are, likewise."""
    return listing_of("benchmarks")


def models() -> Listing:
    """Return what networks there are, likewise."""
    return listing_of("models")


def optimizers() -> Listing:
    """Return what optimizers there are, likewise."""
    return listing_of("optimizers")


def schedules() -> Listing:
    """Return what learning-rate schedules there are, likewise."""
    return listing_of("schedules")


def listing_of(kind: str) -> Listing:
    """Return what there is of a kind, after a note on stderr for each folder or file that cannot count."""
    for remark in (*folders.remarks(), *folders.misnamed(kind)):
        note(remark)
    return listing(kind)
