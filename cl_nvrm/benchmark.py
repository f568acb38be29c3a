"""Benchmark: a sequence of tasks as Avalanche streams, with the model and the recipe that go with it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from avalanche.benchmarks import CLScenario, benchmark_from_datasets, with_classes_timeline, with_task_labels
from avalanche.benchmarks.utils.classification_dataset import _make_taskaware_classification_dataset
from avalanche.models import MultiTaskModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

Seed = int | tuple[int, ...]  # several: one for each trial of a stack
Augment = Callable[[Tensor, torch.Generator], Tensor]  # images (n, …) and a CPU generator to new images (n, …)
Batch = list[Tensor]  # inputs (n, …), class labels (n,), task labels (n,)


class TaskData(Dataset[tuple[Tensor, int]]):
    """The samples of one task, as a view on tensors that all tasks share.

    ``images`` is (N, …) and ready for the model; ``labels`` is (n,), the class within the task of each of its samples;
    ``rows`` (n,) picks them out of ``images`` (None: all); ``permutation`` (D,) reorders the D values of each image.
    ``augment`` changes training batches at random; whoever evaluates sees the images as they are.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        rows: Tensor | None = None,
        permutation: Tensor | None = None,
        task: int = 0,
        augment: Augment | None = None,
    ) -> None:
        self.images, self.labels, self.rows, self.permutation, self.task = images, labels, rows, permutation, task
        self.augment = augment
        self.targets: list[int] = labels.tolist()

    def permuted(self, permutation: Tensor) -> "TaskData":
        """Return the same samples with the values of each image reordered; everything else is shared."""
        other = copy(self)
        other.permutation = permutation
        return other

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.gather(torch.tensor([index]))[0][0], self.targets[index]

    def gather(self, index: Tensor) -> Batch:
        """Return the samples at ``index`` (m,) as one batch."""
        index = index.to(self.images.device)
        # index_select takes a quarter of the time of indexing with a tensor
        x = self.images.index_select(0, index if self.rows is None else self.rows[index])
        if self.permutation is not None:
            x = x.flatten(1).index_select(1, self.permutation).view(x.shape)
        return [x, self.labels[index], torch.full_like(index, self.task)]

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield all samples in order, ``size`` at a time."""
        for index in torch.arange(len(self)).split(size):
            yield self.gather(index)


class Merged(TaskData):
    """The samples of several TaskData, one after the other, each with its own task label; augmented as the first."""

    def __init__(self, parts: Sequence[TaskData]) -> None:
        self.parts, self.task, self.augment = tuple(parts), parts[0].task, parts[0].augment
        self.targets = [label for part in parts for label in part.targets]
        self.starts = torch.tensor([0, *(len(part) for part in parts)]).cumsum(0)

    def gather(self, index: Tensor) -> Batch:
        """Return the samples at ``index`` (m,) as one batch."""
        index = index.cpu()
        owner = torch.bucketize(index, self.starts[1:], right=True)
        order = owner.argsort(stable=True)
        chosen = (index - self.starts[owner])[order].split(owner.bincount(minlength=len(self.parts)).tolist())
        batches = [part.gather(own) for part, own in zip(self.parts, chosen, strict=True) if len(own)]
        back = order.argsort()
        columns = (torch.cat(column) for column in zip(*batches, strict=True))
        return [column.index_select(0, back.to(column.device)) for column in columns]


class ShuffledBatches:
    """A loader over one task without per-sample Python; each pass has the order that ``seed()`` then stands for.

    ``unaugmented`` has the images of the last batch as they were before augmentation; None where there is none.
    """

    def __init__(self, data: TaskData, size: int, seed: Callable[[], Seed]) -> None:
        self.data, self.size, self.seed = data, size, seed
        self.unaugmented: Tensor | None = None

    def __len__(self) -> int:
        return -(-len(self.data) // self.size)

    def __iter__(self) -> Iterator[Batch]:
        seed = self.seed()
        # Its own generator: with and without augmentation, the order of batches is the same.
        draws = torch.Generator().manual_seed(seed ^ 1) if isinstance(seed, int) else None
        for index in _shuffled(len(self.data), seed).split(self.size, dim=-1):
            batch = self.data.gather(index)
            if self.data.augment is not None and draws is not None:
                self.unaugmented = batch[0]
                batch[0] = self.data.augment(batch[0], draws)
            yield batch


def task_data(dataset: Any) -> TaskData | None:
    """Return the TaskData that an Avalanche data set shows unaltered; None if it picks, adds or transforms samples."""
    layer = dataset._flat_data
    while not isinstance(layer, TaskData):
        groups = (
            [layer._transform_groups, layer._frozen_transform_groups] if hasattr(layer, "_transform_groups") else []
        )
        transformed = any(group[group.current_group] is not None for group in groups)
        if transformed or getattr(layer, "_indices", 0) is not None or len(layer._datasets) != 1:
            return None
        layer = layer._datasets[0]
    return layer


def sampled_batches(dataset: Any, size: int, samples: int, seed: Seed) -> Iterator[Batch]:
    """Yield a seeded random ``samples`` (0: all) of an Avalanche data set, ``size`` at a time."""
    index = _shuffled(len(dataset), seed)[..., : samples or None]
    data = task_data(dataset)
    if data is not None:
        yield from map(data.gather, index.split(size, dim=-1))
    else:
        subset = dataset.subset(index.tolist())
        yield from map(list, DataLoader(subset, batch_size=size, collate_fn=getattr(dataset, "collate_fn", None)))


def _shuffled(count: int, seed: Seed) -> Tensor:
    """A random order of ``count`` samples; with several seeds, one a row."""
    if isinstance(seed, tuple):
        return torch.stack([_shuffled(count, one) for one in seed])
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def chosen_rows(images: Any, subset: int, holdout: int) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Choose training rows, and what to test on as (images, labels, rows): the test set, or held-out training images.

    ``subset`` keeps the first so many of one fixed shuffle of the training images (0: all); ``holdout`` takes the
    last so many of that shuffle for testing (0: none). The two never overlap, and the shuffle is the same for every
    run.
    """
    count = len(images.train_y)
    if subset < 0 or holdout < 0 or holdout >= count or subset > count - holdout:
        raise ValueError(f"subset + holdout must lie within the {count} training images, got {subset} and {holdout}")
    shuffle = torch.randperm(count, generator=torch.Generator().manual_seed(0)).to(images.train_y.device)
    rows = shuffle[: subset or count - holdout]
    if holdout:
        return rows, (images.train_x, images.train_y, shuffle[count - holdout :])
    everything = torch.arange(len(images.test_y), device=images.test_y.device)
    return rows, (images.test_x, images.test_y, everything)


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

    def streams(self) -> CLScenario:
        """Build the Avalanche scenario, with task labels and the classes of each experience."""

        def wrapped(tasks: Sequence[TaskData]) -> list[Any]:
            return [
                _make_taskaware_classification_dataset(data, targets=data.targets, task_labels=data.task)
                for data in tasks
            ]

        scenario = benchmark_from_datasets(train=wrapped(self.train), test=wrapped(self.test))
        return with_classes_timeline(with_task_labels(scenario))


class TaskAware(MultiTaskModule):
    """Shows Avalanche a network whose ``forward`` takes task labels, too; heads of other tasks freeze.

    The wrapped network has ``heads``, a ModuleList with one head a task label.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.heads: list[nn.Module] = list(network.heads)  # type: ignore[arg-type]

    def adaptation(self, experience: Any) -> None:
        """Before training on a task, let only its own head (and the shared layers) learn."""
        if self.training:
            for label, head in enumerate(self.heads):
                head.requires_grad_(label in experience.task_labels)

    def forward(self, x: Tensor, task_labels: Tensor | int) -> Tensor:
        """Return the logits of each sample's own head."""
        logits: Tensor = self.network(x, task_labels)
        return logits
