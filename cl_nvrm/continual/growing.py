"""Growing: a head of class-incremental learning, as Avalanche wants it."""

from typing import Any

import torch
from avalanche.models import DynamicModule
from torch import Tensor, nn


class Growing(DynamicModule):
    """Shows only those outputs of a network whose classes have been trained on: (n, seen) of its (n, classes) logits.

    Classes must be numbered in the order in which they come. All outputs have their weights from the start, so the
    optimizer keeps its state; those of classes to come get no gradient. What moves all weights alike, such as weight
    decay, ``l1`` or noise that stays, moves theirs, too. Before the first task all are active.
    """

    seen: Tensor  # how many classes there have been

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("seen", torch.tensor(0))

    def adaptation(self, experience: Any) -> None:
        """Before training on a task, activate the outputs of its classes."""
        if self.training:
            self.seen.fill_(max(int(self.seen), 1 + max(experience.classes_in_this_experience)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, seen)."""
        logits: Tensor = self.network(x)
        return logits[..., : int(self.seen) or None]
