"""Early stopping as an Avalanche plug-in, by accuracy on the samples a benchmark puts aside for validation."""

from collections.abc import Callable
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from torch import Tensor

from cl_nvrm.errors import UserError
from cl_nvrm.plugins.quadratic import grown
from cl_nvrm.spec.curves import VALIDATION


class EarlyStoppingPlugin(SupervisedPlugin):
    """Ends a task once ``patience`` ≥ 1 epochs in a row have not beaten the best validation accuracy before them.

    With ``restore`` the model's weights and buffers are then those of the best epoch, the first of equals, also if the
    task came to its last epoch; other plug-ins find them so after the task. What the optimizer and they gathered on the
    way (momentum, SI's path) stays, and curves end with the epoch whose weights remain. Every task starts anew.
    ``diagnostics`` has the epochs trained, the best one (counted from 1) and its validation accuracy. The place among
    the plug-ins does not matter.

    UserError in training without ``strategy.curves`` that watch the validation accuracy.
    """

    def __init__(self, patience: int = 5, *, restore: bool = True) -> None:
        super().__init__()
        if patience < 1:
            raise UserError(f"patience must be at least 1 epoch, got {patience}")
        self.patience, self.restore = patience, restore
        self.epochs, self.best_epoch, self.best = 0, 0, -1.0
        self.kept: dict[str, Tensor] = {}
        self.diagnostics: dict[str, float] = {}

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Start anew, and be there when the task's epochs are over, before any plug-in hears of it."""
        self.epochs, self.best_epoch, self.best, self.kept = 0, 0, -1.0, {}
        vars(strategy).pop("_after_training_exp", None)  # left from a task that broke off
        after: Callable[..., None] = strategy._after_training_exp

        def ended(**kwargs: Any) -> None:
            vars(strategy).pop("_after_training_exp", None)
            self._look(strategy)
            self._end(strategy)
            after(**kwargs)

        strategy._after_training_exp = ended

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Judge the epoch before, which is first known here: curves are drawn after all other plug-ins."""
        if not _watches_validation(strategy):
            raise UserError(
                f"early-stopping needs the curve '{VALIDATION}'; "
                "take a benchmark that has it, such as random-labels:validation=1000"
            )
        self._look(strategy)
        if self.epochs - self.best_epoch >= self.patience:
            strategy.stop_training()

    @torch.no_grad()
    def _look(self, strategy: Any) -> None:
        """Take note of the epoch just over, if there is a new one."""
        over = strategy.clock.train_exp_epochs
        if over == self.epochs:
            return
        self.epochs, value = over, strategy.curves.values[VALIDATION][-1]
        if value > self.best:
            self.best_epoch, self.best = over, value
            self.kept = {n: tensor.clone() for n, tensor in _state(strategy.model).items()} if self.restore else {}

    @torch.no_grad()
    def _end(self, strategy: Any) -> None:
        if self.restore and self.best_epoch < self.epochs:
            for name, tensor in _state(strategy.model).items():
                tensor.copy_(grown(self.kept.get(name), tensor, new=tensor))  # what has grown since stays
            strategy.curves.forget(self.epochs - self.best_epoch)
        self.kept = {}
        self.diagnostics = {"epochs": self.epochs, "best_epoch": self.best_epoch, "best_validation": self.best}


def _watches_validation(strategy: Any) -> bool:
    curves = getattr(strategy, "curves", None)
    return curves is not None and any(VALIDATION in watched.against for watched in curves.watched)


def _state(model: torch.nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
