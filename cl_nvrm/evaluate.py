"""Evaluate: accuracy computed from the model itself, without any trace in what training does."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from avalanche.models import avalanche_forward
from torch import Tensor, nn

from cl_nvrm.benchmark import TaskData

EVAL_BATCH = 1000


@torch.no_grad()
def accuracy_on(model: nn.Module, test: TaskData) -> float | list[float]:
    """Return the share of a task's samples the model gets right; modes and random state stay as they are.

    Of a stack of trials, the share of each.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    correct: Tensor | int = 0
    for x, y, t in test.batches(EVAL_BATCH):
        logits = avalanche_forward(model, x, t)
        correct = correct + (logits.argmax(-1) == y).sum(-1)
    for module, mode in modes.items():
        module.training = mode
    shares: float | list[float] = (torch.as_tensor(correct).double() / len(test)).tolist()
    return shares


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
