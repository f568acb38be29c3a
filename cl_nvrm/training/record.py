"""Record: what is measured while a task is trained, in plug-ins that leave no trace in the training."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from torch import Tensor

from cl_nvrm.benchmark import TaskData, Watched
from cl_nvrm.errors import Diverged
from cl_nvrm.plugins.trials import PerTrial, plain, trials_of
from cl_nvrm.training.evaluate import accuracy_on, shares_right


class LossRecord(SupervisedPlugin):
    """The mean training loss of each epoch, and an early stop when it is no longer a number.

    Averages ``strategy.loss`` (penalties included, taken under noise where there is any) over each epoch.

    ``epochs`` holds one mean an epoch of the current task (in a stack, a list with one a trial). Diverged is raised
    within ``every`` iterations of the first loss that is not finite.
    """

    def __init__(self, every: int = 50) -> None:
        super().__init__()
        self.every = every
        self.epochs: list[PerTrial] = []
        self.trials: int | None = None
        self._sum: Tensor | float = 0.0
        self._count = 0

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Start a new task."""
        self.epochs, self.trials = [], trials_of(strategy)

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Start a new epoch."""
        self._sum, self._count = 0.0, 0

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Add this loss, if there is one; only every so often is it worth waiting for its value on a GPU."""
        if strategy.loss is None:
            return
        self._sum = self._sum + strategy.loss.detach()
        self._count += 1
        if self._count % self.every == 0:
            self._check()

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Close the epoch."""
        if self._count:
            self.epochs.append(plain(self._check() / self._count, self.trials))

    def _check(self) -> Tensor:
        total = torch.as_tensor(self._sum).view(-1)
        if not bool(torch.isfinite(total).all()):
            raise Diverged("the training loss is not finite; try a smaller learning rate, noise or penalty")
        return total


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
