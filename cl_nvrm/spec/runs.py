"""RunSpec and RunResult: what a run is, and what came of it, as plain values that turn into JSON and back.

These two are all that travels between processes and into the store.
"""

import hashlib
import json
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import Any, Literal

SCHEMA = 1
Status = Literal["done", "diverged", "failed"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides a run's outcome, every default spelled out.

    ``strategy``, ``benchmark`` and ``optimizer`` are canonical texts of ``grammar``; ``dataset_sha256`` is the
    fingerprint of the images and labels, so that two data sets of one name are never confused. Device and threads are
    not part of it: they change a result in its last bits only, and the result records them.

    ``eval_every`` is the number of iterations between evaluations while training (0: none). ``first_tasks`` stops
    after so many tasks of the benchmark (0: all). ``chosen`` says how the values were chosen, where a search did it.
    ``schedule`` is a canonical text, too. ``precision``, ``channels_last`` and ``compiled`` say how the network is
    computed; they change more than the last bits.
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

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits that name this spec and no other."""
        # A field with a default came later and counts where it differs, so that runs made before keep their ids.
        later = {f.name: f.default for f in fields(self) if f.default is not MISSING}
        settings = {name: value for name, value in asdict(self).items() if value != later.get(name, MISSING)}
        return text_digest(canonical_json({"schema": SCHEMA, **settings}))

    @property
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

    @property
    def id(self) -> str:
        """The id of the spec."""
        return self.spec.id

    def to_json(self) -> str:
        """Return this result as an indented JSON text with schema number and id."""
        return json.dumps({"schema": SCHEMA, "id": self.id, **asdict(self)}, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "RunResult":
        """Read what ``to_json`` wrote; ValueError says what is wrong with any other text."""
        values = json.loads(text)
        if not isinstance(values, dict) or values.get("schema") != SCHEMA:
            raise ValueError(f"not a run of schema {SCHEMA}")
        try:
            spec = RunSpec(**values["spec"])
            later = ("initial", "trace", "curves")  # results of before have none of them
            known = {f.name: values[f.name] for f in fields(cls) if f.name not in ("spec", *later)}
        except (KeyError, TypeError) as problem:
            raise ValueError(f"a field is missing or foreign ({problem})") from problem
        if values.get("id") != spec.id:
            raise ValueError("the id does not fit the settings")
        try:
            for name in ("accuracy", "losses"):
                known[name] = tuple(tuple(row) for row in known[name])
            initial = tuple(values.get("initial", ()))
            curves = {str(name): tuple(curve) for name, curve in values.get("curves", {}).items()}
            trace = tuple((task, iteration, tuple(row)) for task, iteration, row in values.get("trace", ()))
        except (TypeError, AttributeError) as problem:
            raise ValueError(f"a field has the wrong shape ({problem})") from problem
        if not (isinstance(known["provenance"], dict) and isinstance(known["diagnostics"], dict)):
            raise ValueError("provenance and diagnostics must be objects")
        widths = {len(row) for row in known["accuracy"]}
        if known["status"] == "done" and (len(widths) != 1 or widths == {0}):
            raise ValueError("a finished run needs an accuracy for every task in every row")
        return cls(spec=spec, **known, initial=initial, trace=trace, curves=curves)


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
