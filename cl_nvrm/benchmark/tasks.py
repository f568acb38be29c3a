"""Tasks: the samples of a task as views on shared tensors, and loaders without per-sample Python."""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

Seed = int | tuple[int, ...]  # several: one for each trial of a stack
Augment = Callable[[Tensor, torch.Generator], Tensor]  # images (n, …) and a CPU generator to new images (n, …)
Batch = list[Tensor]  # inputs (n, …), class labels (n,), task labels (n,)


class TaskData(Dataset[tuple[Tensor, int]]):
    """The samples of one task, as a view on tensors that all tasks share.

    ``images`` is (N, …) and ready for the model; ``labels`` is (n,), the class within the task of each of its samples;
    ``rows`` (n,) picks them out of ``images`` (None: all); ``permutation`` (D,) reorders the D values of each image.
    Values that lie ``outside`` (D,) of an image after that, as a turned one's corners do, become ``fill`` (D,).
    ``augment`` changes training batches at random; whoever evaluates sees the images as they are.
    """

    epoch_samples: int | None = None  # how many, drawn anew, make an epoch; None: all
    outside: Tensor | None = None
    fill: Tensor | None = None

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

    @property
    def task_labels(self) -> int | list[int]:
        """The task label of each sample, or of all."""
        return self.task

    def permuted(self, permutation: Tensor, outside: Tensor | None = None, fill: Tensor | None = None) -> "TaskData":
        """Return the same samples with the values of each image reordered; everything else is shared."""
        other = copy(self)
        other.permutation, other.outside, other.fill = permutation, outside, fill
        return other

    def labelled(self, labels: Tensor, *, task: int) -> "TaskData":
        """Return the same samples with other labels (n,) and another task label."""
        other = copy(self)
        other.task = task
        if labels is not self.labels:
            other.labels, other.targets = labels, labels.tolist()
        return other

    def first(self, samples: int) -> "TaskData":
        """Return the first ``samples`` of the samples."""
        other = self.labelled(self.labels[:samples], task=self.task)
        rows = torch.arange(len(self), device=self.labels.device) if self.rows is None else self.rows
        other.rows = rows[:samples]
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
        if self.outside is not None and self.fill is not None:
            x = torch.where(self.outside, self.fill, x.flatten(1)).view(x.shape)
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

    @property
    def task_labels(self) -> int | list[int]:
        """The task label of each sample, or of all."""
        return [part.task for part in self.parts for _ in part.targets]

    def first(self, samples: int) -> "TaskData":
        """Return about ``samples`` of the samples, of each part the first ones."""
        other = Merged([part.first(-(-samples // len(self.parts))) for part in self.parts])
        other.epoch_samples = None if self.epoch_samples is None else samples
        return other

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
        return -(-(self.data.epoch_samples or len(self.data)) // self.size)

    def __iter__(self) -> Iterator[Batch]:
        seed = self.seed()
        # Its own generator: with and without augmentation, the order of batches is the same.
        draws = torch.Generator().manual_seed(seed ^ 1) if isinstance(seed, int) else None
        order = _shuffled(len(self.data), seed)[..., : self.data.epoch_samples]
        for index in order.split(self.size, dim=-1):
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
