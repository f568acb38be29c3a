"""LossRecord: the mean training loss of each epoch, and an early stop when it is no longer a number."""

from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from torch import Tensor

from cl_nvrm.errors import Diverged
from cl_nvrm.plugins.trials import PerTrial, plain, trials_of


class LossRecord(SupervisedPlugin):
    """Averages ``strategy.loss`` (penalties included, taken under noise where there is any) over each epoch.

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
        """Add this loss; only every so often is it worth waiting for its value on a GPU."""
        self._sum = self._sum + strategy.loss.detach()
        self._count += 1
        if self._count % self.every == 0:
            self._check()

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Close the epoch."""
        self.epochs.append(plain(self._check() / max(self._count, 1), self.trials))

    def _check(self) -> Tensor:
        total = torch.as_tensor(self._sum).view(-1)
        if not bool(torch.isfinite(total).all()):
            raise Diverged("the training loss is not finite; try a smaller learning rate, noise or penalty")
        return total
