"""Memory: a random sample of everything a network has been shown, in plain tensors, and what rehearsal makes of it.

Vitter, "Random sampling with a reservoir", ACM TOMS 1985, algorithm R: the first ``size`` samples of a stream are kept;
then the n-th takes a random place with probability ``size``/n, so that at any time each sample so far is as likely to
be there as any other. Balanced reservoir: Buzzega et al., "Rethinking experience replay: a bag of tricks for continual
learning", ICPR 2020 (arXiv 2010.05595): a sample that is taken in takes a random place of the class that has most.

The stream is that of the batches: what is shown again in a later epoch is a sample once more, as in Buzzega et al.,
"Dark experience for general continual learning", NeurIPS 2020, and in their library Mammoth.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from torch import Tensor
from torch.nn.functional import pad

from cl_nvrm.benchmark import ShuffledBatches
from cl_nvrm.errors import UserError

# inputs "x" (n, …), labels "y" (n,), task labels "task" (n,); maybe "logits" (n, C), of which the first "outputs" (n,)
Samples = dict[str, Tensor]


class Reservoir:
    """At most ``size`` samples of a stream, chosen and drawn by a generator seeded with ``seed``.

    Everything is a number, a tensor or a generator, so a checkpoint can keep it.

    >>> memory = Reservoir(2)
    >>> memory.add({"x": torch.rand(3, 4), "y": torch.arange(3), "task": torch.zeros(3, dtype=torch.long)})
    >>> len(memory), memory.draw(5)["x"].shape
    (2, torch.Size([2, 4]))
    """

    def __init__(self, size: int, *, balanced: bool = False, seed: int = 0) -> None:
        self.size, self.balanced = size, balanced
        self.seen = 0
        self.columns: Samples = {}
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return min(self.seen, self.size)

    @property
    def nbytes(self) -> int:
        """How many bytes the samples take, labels and logits included."""
        return sum(column[: len(self)].nbytes for column in self.columns.values())

    @torch.no_grad()
    def add(self, samples: Samples) -> None:
        """Show a batch of the stream to it; UserError for inputs of another shape than those before."""
        rows = self._rows_by_place(samples)
        self.seen += len(samples["y"])
        for name, values in samples.items():
            column = self._column(name, values)
            places, chosen = (torch.tensor(list(of), device=column.device) for of in (rows, rows.values()))
            if rows:
                new = values.detach().index_select(0, chosen).to(column.dtype)
                if name == "logits":
                    new = pad(new, (0, column.shape[1] - new.shape[1]))
                column.index_copy_(0, places, new)

    def draw(self, count: int) -> Samples | None:
        """Return ``count`` different samples at random, or all where there are fewer; None if there are none."""
        if not len(self):
            return None
        index = torch.randperm(len(self), generator=self.generator)[:count]
        return {name: column.index_select(0, index.to(column.device)) for name, column in self.columns.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return all there is to it."""
        return dict(vars(self))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken."""
        if state.keys() != vars(self).keys():
            raise ValueError(f"a memory has {', '.join(vars(self))}, not {', '.join(state)}")
        vars(self).update(state)

    def _rows_by_place(self, samples: Samples) -> dict[int, int]:
        """Which of a batch's samples goes to which place; of two for the same place, the later one."""
        number = self.seen + torch.arange(len(samples["y"]))
        chance = torch.rand(2, len(number), generator=self.generator, dtype=torch.float64)
        places = torch.where(number < self.size, number, (chance[0] * (number + 1)).long())
        accepted = (places < self.size).nonzero().flatten().tolist()
        if not self.balanced:
            return {int(places[row]): row for row in accepted}
        kept, new = (_classes(of) for of in (self._kept(), samples))
        taken: dict[int, int] = {}
        for row in accepted:
            place = len(kept)
            if place < self.size:
                kept.append(new[row])
            else:
                counts = Counter(kept)
                most = max(counts.values())
                candidates = [at for at, one in enumerate(kept) if counts[one] == most]
                place = candidates[int(chance[1, row] * len(candidates))]
                kept[place] = new[row]
            taken[place] = row
        return taken

    def _kept(self) -> Samples:
        return {name: column[: len(self)] for name, column in self.columns.items()}

    def _column(self, name: str, values: Tensor) -> Tensor:
        """The tensor of that name, with room for all that is there by now."""
        column = self.columns.get(name)
        if column is None:
            column = values.detach().new_zeros(0, *values.shape[1:])
        if name == "logits" and values.shape[1] > column.shape[1]:
            column = pad(column, (0, values.shape[1] - column.shape[1]))
        elif name != "logits" and values.shape[1:] != column.shape[1:]:
            shapes = " and ".join(str(tuple(one.shape[1:])) for one in (column, values))
            raise UserError(f"a memory keeps samples of one shape, not of {shapes}")
        if len(column) < len(self):
            rows = min(self.size, max(len(self), 2 * len(column)))
            column = torch.cat([column, column.new_zeros(rows - len(column), *column.shape[1:])])
        self.columns[name] = column
        return column


class Rehearsal(SupervisedPlugin):
    """What all methods with a reservoir share: every batch is shown to it after the step that was taken on it.

    ``memory`` ≥ 0 is its size in samples, ``balanced`` its form; ``batch`` ≥ 0 samples are drawn at a time (0: as many
    as the batch of the new task has). What is kept are inputs before augmentation, and what is drawn is augmented
    anew, as the task being trained is. ``memory_samples`` and ``memory_bytes`` are recorded after each task.
    """

    name: str  # the order in which several of them join the batch

    def __init__(self, memory: int = 200, *, batch: int = 0, balanced: bool = False, seed: int = 0) -> None:
        super().__init__()
        for key, value in (("memory", memory), ("batch", batch)):
            if value < 0:
                raise UserError(f"{key} must be a number of samples of at least 0, got {value}")
        self.memory = Reservoir(memory, balanced=balanced, seed=seed)
        self.batch = batch
        self.diagnostics: dict[str, int] = {}
        self._new: Samples = {}  # the batch of this iteration, before anything joined it
        self._loader: ShuffledBatches | None = None  # of this epoch, where it is one that may augment

    def joining(self, strategy: Any) -> Samples | None:
        """Return what joins the batch, if anything does."""
        return None

    def kept(self, strategy: Any) -> Samples:
        """Return what the memory is shown of this iteration's batch."""
        return self._new

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Note what batches come from."""
        self._loader = strategy.dataloader if isinstance(strategy.dataloader, ShuffledBatches) else None

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Note the new batch and have samples join it, the first plug-in of this kind for all of them."""
        plugins = [plugin for plugin in strategy.plugins if isinstance(plugin, Rehearsal)]
        if plugins[0] is not self:
            return
        before = None if self._loader is None else self._loader.unaugmented
        x = strategy.mb_x if before is None else before.to(strategy.device)
        for plugin in plugins:
            plugin._new = {"x": x, "y": strategy.mb_y, "task": strategy.mb_task_id}
        for plugin in sorted(plugins, key=lambda plugin: plugin.name):
            joining = plugin.joining(strategy)
            if joining is not None:
                for place, name in ((0, "x"), (1, "y"), (-1, "task")):
                    strategy.mbatch[place] = torch.cat([strategy.mbatch[place], joining[name]])

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Show the batch to the memory."""
        self.memory.add(self.kept(strategy))
        self._new = {}

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Record how large the memory is."""
        self._loader = None  # of no use until the next task, nor in a checkpoint
        self.diagnostics = {"memory_samples": len(self.memory), "memory_bytes": self.memory.nbytes}

    def draw(self, strategy: Any) -> Samples | None:
        """Draw samples from memory, augmented as the task is; None while there are none."""
        drawn = self.memory.draw(self.batch or len(self._new["y"]))
        if drawn is not None and self._loader is not None and self._loader.data.augment is not None:
            drawn["x"] = self._loader.data.augment(drawn["x"], self.memory.generator)
        return drawn


def _classes(samples: Samples) -> list[tuple[int, int]]:
    """Each sample's class; two heads may each have a class 0."""
    return list(zip(samples["task"].tolist(), samples["y"].tolist(), strict=True)) if samples else []
