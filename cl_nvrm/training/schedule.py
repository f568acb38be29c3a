"""Schedule: sets the learning rate at the start of each epoch; every task starts anew."""

from collections.abc import Callable
from typing import Any

from avalanche.core import SupervisedPlugin


class Schedule(SupervisedPlugin):
    """Multiplies ``lr`` by ``factor`` of the share of the task's epochs that is over; the scale of noise stays."""

    def __init__(self, lr: float, factor: Callable[[float], float]) -> None:
        super().__init__()
        self.lr, self.factor = lr, factor

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Set the learning rate of every param group."""
        now = self.lr * self.factor(strategy.clock.train_exp_epochs / strategy.train_epochs)
        for group in strategy.optimizer.param_groups:
            group["lr"] = now
