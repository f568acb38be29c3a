"""Rehearsal: Avalanche's replay and A-GEM, made to mind their neighbours, and naive rehearsal.

Rolnick et al., "Experience replay for continual learning", NeurIPS 2019 (arXiv 1811.11682); Chaudhry et al., "Efficient
lifelong learning with A-GEM", ICLR 2019 (arXiv 1812.00420), eq. 11: where the gradient g of the batch and the gradient
g_ref of a batch from memory disagree, g·g_ref < 0, the step takes g - (g·g_ref / g_ref·g_ref) g_ref.

What is remembered are training samples. Avalanche's two hold its data sets, which are not plain values: a run with them
that is stopped starts over.

Naive rehearsal: Hsu et al., "Re-evaluating continual learning scenarios", 2018 (arXiv 1810.12488).
"""

import random
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from avalanche.models import avalanche_forward
from avalanche.training.plugins import AGEMPlugin as AvalancheAGEM
from avalanche.training.plugins import ReplayPlugin as AvalancheReplay
from torch import Tensor

from cl_nvrm.benchmark import Merged, ShuffledBatches, TaskData
from cl_nvrm.errors import UserError
from cl_nvrm.plugins.gradients import add_kept, keep


class OwnRandomness:
    """A random state of its own for code that draws from torch's and Python's global ones on the CPU."""

    def __init__(self, seed: int) -> None:
        self._torch = torch.Generator().manual_seed(seed).get_state()
        self._python = random.Random(seed).getstate()

    @contextmanager
    def drawn_from(self) -> Iterator[None]:
        """Swap the states for a ``with`` block, so that neither it nor its surroundings notice the other's draws."""
        python = random.getstate()
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._torch)
            random.setstate(self._python)
            try:
                yield
            finally:
                self._torch, self._python = torch.get_rng_state(), random.getstate()
                random.setstate(python)


class ReplayPlugin(AvalancheReplay):
    """Avalanche's replay of ``memory`` ≥ 1 samples, in equal parts of all tasks so far, chosen from a state of its own.

    From the second task on, batches have twice the size: one half is new, the other from memory (all of it, where it is
    smaller). They come from Avalanche's loader in an order drawn from the global random state, so they are not those of
    plain training, and without the augmentation a task may have. The frozen heads of earlier tasks stay frozen:
    rehearsal teaches the layers that are shared. UserError if ``memory`` is smaller than the number of tasks.
    """

    def __init__(self, memory: int = 200, *, seed: int = 0) -> None:
        if memory < 1:
            raise UserError(f"memory must be at least 1 sample, got {memory}")
        super().__init__(mem_size=memory)
        self.diagnostics: dict[str, int] = {}
        self._own = OwnRandomness(seed)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Join the memory to the batches; UserError if it has no room for all tasks that are to come."""
        _refuse_too_few("memory", self.mem_size, strategy.experience, len(self.storage_policy.buffer_groups))
        super().before_training_exp(strategy, **kwargs)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Make room for the task's samples."""
        with self._own.drawn_from():
            self.storage_policy.post_adapt(strategy, strategy.experience)
        self.diagnostics = _footprint(self.storage_policy.buffer_datasets)


class NaiveRehearsalPlugin(SupervisedPlugin):
    """Trains each task on its data and the memory together, shuffled into batches of the usual size (Hsu et al. 2018).

    The memory is repeated as often as ``memory`` goes into the task's samples, at least once, so that old and new come
    about as often and an epoch has about twice the steps. After a task, ``memory`` ≥ 1 samples are kept in equal parts
    of all tasks so far, rounded down, chosen by ``seed``. They are augmented as the new task's are. Heads of earlier
    tasks stay frozen where the network freezes them.

    UserError if ``memory`` is smaller than the number of tasks, or if batches do not come from tensors.
    """

    def __init__(self, memory: int = 200, *, seed: int = 0) -> None:
        super().__init__()
        if memory < 1:
            raise UserError(f"memory must be at least 1 sample, got {memory}")
        self.memory = memory
        self.tasks: list[list[Tensor]] = []  # of each: inputs, labels and task labels of what is kept, at random order
        self.diagnostics: dict[str, int] = {}
        self._generator = torch.Generator().manual_seed(seed)
        self._new: TaskData | None = None  # the task's own data

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Join the memory to the task's data."""
        _refuse_too_few("memory", self.memory, strategy.experience, len(self.tasks))
        loader = strategy.dataloader
        if not isinstance(loader, ShuffledBatches):
            raise UserError(
                "mix=concatenated needs the benchmark's own batches, which another plug-in changes; take halves"
            )
        self._new = loader.data
        if self.tasks:
            times = max(len(self._new) // self.memory, 1)
            strategy.dataloader = joined = copy(loader)
            joined.data = Merged([self._new, *(_repeated(kept, times) for kept in self.tasks)])

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Make room for the task's samples."""
        if self._new is not None:
            share = self.memory // (len(self.tasks) + 1)
            chosen = torch.randperm(len(self._new), generator=self._generator)[:share]
            kept = [[column[:share].clone() for column in task] for task in self.tasks]
            self.tasks, self._new = [*kept, self._new.gather(chosen)], None
        self.diagnostics = {
            "memory_samples": sum(len(labels) for _, labels, _ in self.tasks),
            "memory_bytes": sum(column.nbytes for task in self.tasks for column in task),
        }


class AGEMPlugin(AvalancheAGEM):
    """Avalanche's A-GEM, with ``patterns`` ≥ 1 samples kept of each task and ``sample`` ≥ 1 drawn for each g_ref.

    g_ref has an equal part of each task so far: ``sample`` is rounded down to a multiple of their number; UserError if
    it is smaller than that of all tasks. It is taken at clean weights, g under NVRM (the plug-in or the optimizer) at
    the noisy ones; that pass is in training mode, so it moves running statistics, and is counted as a gradient pass.

    The projection joins p.grad before the step, together with the gradients of penalties and in the order of names: SI
    finds the gradient as it was, and EWC's pull is not projected, so that a step with both may still go against g_ref.
    """

    name = "agem"
    reads_data_gradient = True

    def __init__(self, patterns: int = 200, *, sample: int = 200, seed: int = 0) -> None:
        for key, value in (("patterns", patterns), ("sample", sample)):
            if value < 1:
                raise UserError(f"{key} must be at least 1, got {value}")
        super().__init__(patterns_per_experience=patterns, sample_size=sample)
        self.diagnostics: dict[str, float] = {}
        self._own = OwnRandomness(seed)
        self._steps = self._projected = 0
        self._shapes: dict[str, torch.Size] = {}  # of the weights whose gradients g_ref has, one after the other

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Start counting projections; UserError if a sample has no room for all tasks that are to come."""
        _refuse_too_few("sample", self.sample_size, strategy.experience, len(self.buffers))
        self._steps = self._projected = 0

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Take the gradient on memory, and leave p.grad and the optimizer alone: at its zero_grad() some draw noise."""
        if not self.buffers:
            return
        strategy.model.train()
        x, y, *_, task = self.sample_from_memory()
        outputs = avalanche_forward(strategy.model, x.to(strategy.device), task)
        loss = strategy._criterion(outputs, y.to(strategy.device))
        weights = dict(strategy.model.named_parameters())
        learning = [p for p in weights.values() if p.requires_grad]
        found: dict[Any, Any] = {}
        if loss.requires_grad:  # not where all that leads to the memory's own heads is frozen
            found = dict(zip(learning, torch.autograd.grad(loss, learning, allow_unused=True), strict=True))
            if hasattr(strategy, "gradient_passes"):
                strategy.gradient_passes += 1
        self.reference_gradients = torch.cat([_dense(found.get(p), p).flatten() for p in weights.values()])
        self._shapes = {name: p.shape for name, p in weights.items()}

    def sample_from_memory(self) -> Any:
        """Draw a batch from memory."""
        with self._own.drawn_from():
            return super().sample_from_memory()

    @torch.no_grad()
    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Find what the projection takes away, and keep it for ``before_update``."""
        if not self.buffers:
            return
        parts = self.reference_gradients.split([shape.numel() for shape in self._shapes.values()])
        known = {n: part.view(shape) for part, (n, shape) in zip(parts, self._shapes.items(), strict=True)}
        # of what has not come, gone or grown since
        weights = [(n, p) for n, p in strategy.model.named_parameters() if self._shapes.get(n) == p.shape]
        references = torch.cat([known[name].flatten() for name, _ in weights])
        gradient = torch.cat([_dense(p.grad, p).flatten() for _, p in weights])
        agreement = torch.dot(gradient, references)
        self._steps += 1
        if agreement < 0:
            self._projected += 1
            alpha = agreement / torch.dot(references, references)
            keep(strategy, self.name, {n: -(known[n] * alpha) for n, p in weights if p.grad is not None})

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        """Project, and add the gradients of penalties, if none of them has done both already."""
        add_kept(strategy)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Remember samples of the task, and record the share of steps that were projected."""
        with self._own.drawn_from():
            super().after_training_exp(strategy, **kwargs)
        self.diagnostics = {"projected": self._projected / max(self._steps, 1), **_footprint(self.buffers)}


def _repeated(kept: list[Tensor], times: int) -> TaskData:
    """Samples of one task, each ``times`` times, without copying them."""
    x, labels, task = kept
    rows = torch.arange(len(labels), device=labels.device).repeat(times)
    return TaskData(x, labels.repeat(times), rows=rows, task=int(task[0]))


def _footprint(groups: Iterable[Any]) -> dict[str, int]:
    """How many samples Avalanche's data sets stand for, and the bytes of their inputs and both labels."""
    sizes = [(len(group), group[0][0].nbytes + 16) for group in groups if len(group)]
    return {"memory_samples": sum(n for n, _ in sizes), "memory_bytes": sum(n * each for n, each in sizes)}


def _dense(gradient: Tensor | None, weight: Tensor) -> Tensor:
    return torch.zeros_like(weight) if gradient is None else gradient.to_dense()


def _refuse_too_few(name: str, samples: int, experience: Any, seen: int) -> None:
    """UserError if ``samples`` are fewer than the tasks of the stream, or than those seen and this one."""
    stream = getattr(experience, "_origin_stream", None)  # asked by its public name, it would raise where it is unset
    tasks = max(seen + 1, len(stream) if isinstance(stream, Sized) else 0)
    if samples < tasks:
        raise UserError(f"{name} must be at least the number of tasks, {tasks}, got {samples}")
