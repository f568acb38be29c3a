"""Schedule: sets the learning rate at the start of each epoch, or iteration; every task starts anew."""

from collections.abc import Callable
from typing import Any

from avalanche.core import SupervisedPlugin


class Schedule(SupervisedPlugin):
    """Multiplies ``lr`` by ``factor`` of the share of the task that is over; the scale of noise stays.

    The share is that of epochs, and of iterations where the strategy counts these.
    """

    def __init__(self, lr: float, factor: Callable[[float], float]) -> None:
        super().__init__()
        self.lr, self.factor = lr, factor

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Set the learning rate of every param group, as far as it depends on the epoch."""
        if not getattr(strategy, "iterations", 0):
            self._set(strategy, strategy.clock.train_exp_epochs / strategy.train_epochs)

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Set the learning rate of every param group, as far as it depends on the iteration."""
        if getattr(strategy, "iterations", 0):
            self._set(strategy, strategy.clock.train_exp_iterations / strategy.iterations)

    def _set(self, strategy: Any, over: float) -> None:
        now = self.lr * self.factor(over)
        for group in strategy.optimizer.param_groups:
            group["lr"] = now
