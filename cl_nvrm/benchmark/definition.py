"""Benchmark: a sequence of tasks as Avalanche streams, with the model and the recipe that go with it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from cl_nvrm.benchmark.tasks import TaskData

if TYPE_CHECKING:
    from avalanche.benchmarks import CLScenario


@dataclass(frozen=True)
class Recipe:
    """How a benchmark is trained unless told otherwise; ``fresh_optimizer`` starts each task with a new optimizer."""

    epochs: int = 1
    batch_size: int = 256
    optimizer: str = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    fresh_optimizer: bool = False
    schedule: str = "constant"

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            like = getattr(Recipe, name)  # the default
            kind = (int, float) if isinstance(like, float) else type(like)
            if not isinstance(value, kind) or (kind is int and value < 1):
                raise ValueError(f"a recipe's {name} is something like {like!r}, not {value!r}")

    def but(self, changes: Mapping[str, Any]) -> "Recipe":
        """Return this recipe with other values, by name; ValueError for a name that is none of its fields."""
        unknown = sorted(changes.keys() - {f.name for f in fields(self)})
        if unknown:
            raise ValueError(f"a recipe has {', '.join(f.name for f in fields(self))}, not {', '.join(unknown)}")
        return replace(self, **changes)


@dataclass(frozen=True)
class Watched:
    """Samples that are predicted after every epoch, and what the predictions are held against.

    ``against`` has, by name, which of the samples count (m,), as indices, and the labels (m,) that make them right.
    """

    data: TaskData
    against: dict[str, tuple[Tensor, Tensor]]

    def to(self, device: str) -> "Watched":
        """Return this with its labels on a device; the data are moved by themselves."""
        return replace(self, against={name: (index, y.to(device)) for name, (index, y) in self.against.items()})


@dataclass(frozen=True)
class Benchmark:
    """A sequence of tasks; ``stream`` holds them as ordinary Avalanche train and test streams.

    ``model`` builds a fresh network from the global random state. ``chance`` is the accuracy of guessing. ``details``
    are plain values worth recording, such as the hashes of the permutations; ``diagnostics`` those that say what the
    data turned out to be. ``watched`` is evaluated after every epoch. ValueError for tasks that cannot be learned or
    tested: of one class only, or without samples.
    """

    scenario: str
    train: Sequence[TaskData]
    test: Sequence[TaskData]
    model: Callable[[], nn.Module]
    chance: float
    heads: int = 1
    recipe: Recipe = Recipe()
    details: dict[str, Any] = field(default_factory=dict)
    diagnostics: dict[str, Any] = field(default_factory=dict)
    watched: tuple[Watched, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < len(self.train) == len(self.test):
            counts = f"{len(self.train)} and {len(self.test)}"
            raise ValueError(f"needs a training task, and as many test tasks as training tasks, not {counts}")
        if not self.chance < 1:
            raise ValueError("each task has one class only, so there is nothing to learn in it")
        for what, tasks in (("training", self.train), ("test", self.test)):
            for number, task in enumerate(tasks, 1):
                if len(task) == 0:
                    raise ValueError(f"task {number} has no {what} samples")

    def streams(self) -> "CLScenario":
        """Build the Avalanche scenario, with task labels and the classes of each experience."""
        # Imported here: what a benchmark is made of can be looked at without Avalanche.
        from avalanche.benchmarks import benchmark_from_datasets, with_classes_timeline, with_task_labels
        from avalanche.benchmarks.utils.classification_dataset import _make_taskaware_classification_dataset

        def wrapped(tasks: Sequence[TaskData]) -> list[Any]:
            return [
                _make_taskaware_classification_dataset(data, targets=data.targets, task_labels=data.task_labels)
                for data in tasks
            ]

        scenario = benchmark_from_datasets(train=wrapped(self.train), test=wrapped(self.test))
        return with_classes_timeline(with_task_labels(scenario))
