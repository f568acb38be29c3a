"""Target: a published table as data, with the command that makes each of its rows here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cl_nvrm.analysis import metrics
from cl_nvrm.spec import RunResult

Spread = Literal["sd", "sem"]


@dataclass(frozen=True)
class Row:
    """One published number, in percent, and the words of the main command that ask for it here.

    ``spread`` is None where a single run was published, or none was given; ``runs`` is how many there were, where that
    differs from the target's. ``seeds`` is how many runs we take;
    ``quick`` rows are those of ``--quick``. ``score`` is one of ``SCORES``. ``explains`` names a row that this one
    repeats with the reason switched on for which they differ; it has the published number of that row. ``note`` says
    what differs from the publication.
    """

    name: str
    mean: float
    spread: float | None
    words: str
    seeds: int = 3
    score: str = "final accuracy"
    quick: bool = False
    explains: str = ""
    note: str = ""
    runs: int = 0


@dataclass(frozen=True)
class Ordering:
    """A published order of two rows: ``higher`` lies above ``lower``, or, with ``equal``, within the margin of it."""

    higher: str
    lower: str
    equal: bool = False


@dataclass(frozen=True)
class Target:
    """A published table: where it stands, how many runs it rests on, and its rows.

    ``runs`` is the number of runs behind each row, ``spread`` what their spread is. ``common`` are words of the main
    command for all rows, ``data`` the data set that the numbers are of. ``about`` says in a line what is compared.
    """

    about: str
    source: str
    runs: int
    spread: Spread
    data: str
    common: str
    rows: Sequence[Row]
    orderings: Sequence[Ordering] = field(default=())


@dataclass(frozen=True)
class Score:
    """What a row may be the number of: a function of a result, in [0, 1], and how many tasks it needs (0: all)."""

    of: Callable[[RunResult], float]
    tasks: int = 0


def _after_task(number: int) -> Score:
    return Score(lambda result: metrics.mean_accuracy(result.accuracy)[number - 1], number)


SCORES: dict[str, Score] = {
    "final accuracy": Score(metrics.final_accuracy),
    "learning accuracy": Score(metrics.learning_accuracy),
    "backward transfer": Score(metrics.backward_transfer),
    "last ten epochs": Score(metrics.late_accuracy),
    "training accuracy": Score(metrics.training_accuracy),
    "validated accuracy": Score(metrics.validated_accuracy),
    **{f"mean after task {number}": _after_task(number) for number in range(1, 21)},
}
