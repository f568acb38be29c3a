"""RunSpec and RunResult: what a run is, and what came of it, as plain values that turn into JSON and back.

These two are all that travels between processes and into the store.
"""

import hashlib
import json
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from functools import cache, cached_property
from typing import Any, Literal, NoReturn

from cl_nvrm.errors import UserError

SCHEMA = 1
RECORDED = {"scenario": str, "gradient_passes": int, "weights_sha256": str, "traceback": str}  # read from provenance
STRICT = {"strict": True, "extra": "forbid", "allow_inf_nan": False}  # how pydantic reads what is annotated below
Status = Literal["done", "diverged", "failed"]
Precision = Literal["float32", "bfloat16"]


def _plain(name: str, value: Any, kind: type) -> Any:
    """Return a value as one of a plain type that is equal to it."""
    if type(value) is kind:
        return value
    try:
        same = value if isinstance(value, str) else kind(value)
        if isinstance(value, str) is (kind is str) and same == value:
            return same
    except (TypeError, ValueError, OverflowError):
        pass
    raise UserError(f"{name} of a spec must be of type {kind.__name__}, got {value!r}")


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides a run's outcome, every default spelled out.

    ``strategy``, ``benchmark`` and ``optimizer`` are canonical texts of ``grammar``; ``dataset_sha256`` is the
    fingerprint of the images and labels, so that two data sets of one name are never confused. Device and threads are
    not part of it: they change a result in its last bits only, and the result records them.

    ``eval_every`` is the number of iterations between evaluations while training (0: none). ``first_tasks`` stops
    after so many tasks of the benchmark (0: all). ``chosen`` says how the values were chosen, where a search did it.
    ``schedule`` is a canonical text, too. ``precision``, ``channels_last`` and ``compiled`` say how the network is
    computed; they change more than the last bits. ``iterations`` is the number of steps a task; ``epochs`` is 0 then.

    Specs that are equal have the same id. One written by hand may mean the same run as another and not be equal to it:
    ``spec.canonical`` makes both the same, and whatever trains asks it. UserError for a value of another type.
    """

    strategy: str
    benchmark: str
    dataset: str
    dataset_sha256: str
    seed: int
    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    weight_decay: float
    eval_every: int = 0
    first_tasks: int = 0
    chosen: str = ""
    schedule: str = "constant"
    precision: Precision = "float32"
    channels_last: bool = False
    compiled: bool = False
    iterations: int = 0

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        for f in fields(self):  # 1, True and 1.0 are equal, and the JSON texts that name a run are not
            kind = f.type if f.type in (int, float, bool) else str
            object.__setattr__(self, f.name, _plain(f.name, getattr(self, f.name), kind))  # type: ignore[arg-type]

    @cached_property
    def id(self) -> str:
        """Sixteen hexadecimal digits that name this spec and no other."""
        # A field with a default came later and counts where it differs, so that runs made before keep their ids.
        later = {f.name: f.default for f in fields(self) if f.default is not MISSING}
        settings = {name: value for name, value in asdict(self).items() if value != later.get(name, MISSING)}
        return text_digest(canonical_json({"schema": SCHEMA, **settings}))

    @cached_property
    def cell(self) -> "RunSpec":
        """The settings without the seed: what the trials of one cell of a table have in common."""
        return replace(self, seed=0)


@dataclass(frozen=True)
class RunResult:
    """What a run measured; ``accuracy[t][k]`` in [0, 1] is the accuracy on task k after training on task t.

    ``initial[k]`` is that of the untrained network. ``trace`` has a row (t, iteration, accuracies on tasks 0 … t) for
    each evaluation while training. ``curves`` has, by name, one share in [0, 1] for each epoch, tasks one after the
    other, of what the benchmark watches. A diverged run keeps the rows it had; a failed one has none and says why in
    ``error``. Seconds are wall-clock.
    """

    spec: RunSpec
    status: Status
    accuracy: tuple[tuple[float, ...], ...] = ()
    losses: tuple[tuple[float, ...], ...] = ()
    diagnostics: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    error: str | None = None
    initial: tuple[float, ...] = ()
    trace: tuple[tuple[int, int, tuple[float, ...]], ...] = ()
    curves: dict[str, tuple[float, ...]] = field(default_factory=dict)

    __pydantic_config__ = STRICT

    @property
    def id(self) -> str:
        """The id of the spec."""
        return self.spec.id

    def to_json(self) -> str:
        """Return this result as an indented JSON text with schema number and id."""
        return json.dumps({"schema": SCHEMA, "id": self.id, **asdict(self)}, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "RunResult":
        """Read what ``to_json`` wrote; ValueError says, in a line, what is wrong with any other text."""
        try:
            return cls._from_json(text)
        except RecursionError as problem:
            raise ValueError("nested too deeply") from problem

    @classmethod
    def _from_json(cls, text: str) -> "RunResult":
        values = json.loads(text, parse_constant=_no_number, object_pairs_hook=_object)
        if not isinstance(values, dict) or values.pop("schema", None) != SCHEMA:
            raise ValueError(f"not a run of schema {SCHEMA}")
        run_id = values.pop("id", None)
        later = ("initial", "trace", "curves")  # results of before have none of them
        if missing := {f.name for f in fields(cls)} - {*values, *later}:
            raise ValueError(f"a field is missing ({', '.join(sorted(missing))})")
        result = _read(json.dumps(values, allow_nan=False))
        if run_id != result.id:
            raise ValueError("the id does not fit the settings")
        result._check()
        return result

    def _check(self) -> None:
        """Raise ValueError for what its type allows and no run can measure."""
        rows = (*self.accuracy, self.initial, *(row for _, _, row in self.trace), *self.curves.values())
        if not all(0 <= share <= 1 for row in rows for share in row):
            raise ValueError("an accuracy lies outside of 0 and 1")
        if min(self.train_seconds, self.eval_seconds) < 0:
            raise ValueError("a time is below 0")
        for name, kind in RECORDED.items():
            if not isinstance(self.provenance.get(name, kind()), kind):
                raise ValueError(f"provenance.{name} is no {kind.__name__}")
        tasks = len(self.accuracy)
        if self.status == "done" and (not tasks or {len(row) for row in self.accuracy} != {tasks}):
            raise ValueError("a finished run needs an accuracy for every task in every row")
        if any(iteration < 1 or not row for _, iteration, row in self.trace):
            raise ValueError("an evaluation while training has no iteration, or no accuracy")
        if self.status == "done" and (len(self.initial) not in (0, tasks) or any(t >= tasks for t, _, _ in self.trace)):
            raise ValueError("there are other accuracies for more tasks than the run has")


@cache
def _reader() -> Any:
    from pydantic import TypeAdapter  # heavy: not needed for --help

    return TypeAdapter(RunResult)


def _read(text: str) -> RunResult:
    try:
        result: RunResult = _reader().validate_json(text)
    except ValueError as problem:
        first = problem.errors()[0]  # type: ignore[attr-defined]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place}: {first['msg']}") from None
    return result


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number a run can have")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name occurs twice in an object")
    return values


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a plain value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def text_digest(text: str, digits: int = 16) -> str:
    """Return the first hexadecimal ``digits`` of the SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Return a seed in [0, 2⁶³) for one purpose of one run; different purposes are independent of each other.

    >>> derived_seed(0, "model") == derived_seed(0, "model"), derived_seed(0, "model") == derived_seed(1, "model")
    (True, False)
    """
    digest = hashlib.sha256(canonical_json([seed, *purpose]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
