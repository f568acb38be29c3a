"""Evaluate: accuracy computed from the model itself, without any trace in what training does."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from avalanche.models import avalanche_forward
from torch import Tensor, nn

from cl_nvrm.benchmark import TaskData, Watched

EVAL_BATCH = 1000


def accuracy_on(model: nn.Module, test: TaskData) -> float | list[float]:
    """Return the share of a task's samples the model gets right; modes and random state stay as they are.

    Of a stack of trials, the share of each.
    """
    correct: Tensor | int = 0
    for predicted, y in _predicted(model, test):
        correct = correct + (predicted == y).sum(-1)
    shares: float | list[float] = (torch.as_tensor(correct).double() / len(test)).tolist()
    return shares


def shares_right(model: nn.Module, watched: Watched) -> dict[str, float]:
    """Return, for each thing the predictions are held against, the share of samples that agree."""
    predicted = torch.cat([batch for batch, _ in _predicted(model, watched.data)])
    return {
        name: float((predicted[index] == labels).double().mean()) for name, (index, labels) in watched.against.items()
    }


def _predicted(model: nn.Module, data: TaskData) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield predicted and given labels of all samples, batch by batch, in evaluation mode."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        for x, y, t in data.batches(EVAL_BATCH):
            with torch.no_grad():
                yield avalanche_forward(model, x, t).argmax(-1), y
    finally:
        for module, mode in modes.items():
            module.training = mode


def fingerprint(model: nn.Module) -> str:
    """Return sixteen hexadecimal digits over every bit of the model's weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


class Trace(SupervisedPlugin):
    """Evaluates every ``every`` iterations while training: what old tasks go through on the way to a new one.

    De Lange et al., "Continual evaluation for lifelong learning: identifying the stability gap", ICLR 2023. ``rows``
    has (t, iteration within task t, accuracies on tasks 0 … t) for the current task t. Weights are clean at that
    moment, noise or not. ``every`` = 0 turns it off.
    """

    def __init__(self, every: int, tests: Sequence[TaskData]) -> None:
        super().__init__()
        self.every, self.tests = every, tests
        self.rows: list[tuple[int, int, list[Any]]] = []
        self.task = 0

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Start a new task."""
        self.rows, self.task = [], strategy.experience.current_experience

    def completed(self, iterations: int, row: list[Any]) -> list[tuple[int, int, list[Any]]]:
        """Return the rows of the task just finished, the one of its end included, whose accuracies are given."""
        if not self.every or (self.rows and self.rows[-1][1] == iterations):
            return self.rows
        return [*self.rows, (self.task, iterations, row[: self.task + 1])]

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Evaluate, if it is time."""
        iteration = strategy.clock.train_exp_iterations + 1  # the clock ticks after all other plug-ins
        if self.every and iteration % self.every == 0:
            row = [accuracy_on(strategy.model, test) for test in self.tests[: self.task + 1]]
            self.rows.append((self.task, iteration, row))


class Curves(SupervisedPlugin):
    """Evaluates what a benchmark wants watched after every epoch; weights are clean at that moment, noise or not.

    ``values`` has one number an epoch by name. A stack of trials is not supported.
    """

    def __init__(self, watched: Sequence[Watched]) -> None:
        super().__init__()
        self.watched = watched
        self.values: dict[str, list[float]] = {}
        self._seconds = 0.0

    def take_seconds(self) -> float:
        """Return the seconds spent evaluating since this was asked last."""
        taken, self._seconds = self._seconds, 0.0
        return taken

    def forget(self, epochs: int) -> None:
        """Forget the last epochs, whose weights are gone."""
        self.values = {name: values[: len(values) - epochs] for name, values in self.values.items()}

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Let other plug-ins find what is measured."""
        strategy.curves = self

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Evaluate."""
        start = time.perf_counter()
        for watched in self.watched:
            for name, share in shares_right(strategy.model, watched).items():
                self.values.setdefault(name, []).append(share)
        self._seconds += time.perf_counter() - start
