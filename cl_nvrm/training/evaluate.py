"""Evaluate: accuracy computed from the model itself, without any trace in what training does."""

from collections.abc import Iterator

import torch
from avalanche.models import avalanche_forward
from torch import Tensor, nn

from cl_nvrm.analysis.modules import in_eval_mode
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
    with in_eval_mode(model):
        for x, y, t in data.batches(EVAL_BATCH):
            with torch.no_grad():
                yield avalanche_forward(model, x, t).argmax(-1), y
