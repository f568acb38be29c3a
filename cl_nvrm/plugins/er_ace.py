"""ER-ACE: new samples compete with the classes of their batch only, samples from memory with all classes.

Caccia et al., "New insights on reducing abrupt representation change in online continual learning", ICLR 2022 (arXiv
2104.05025): cross entropy of the batch, its softmax over the classes that occur in it, plus that of a batch from
memory. As in the authors' code and in Mammoth, both begin with the second task; the first is plain training. These
codes leave in classes that have not come yet, too, which nothing pulls at; the paper does not.

Avalanche's ER-ACE puts the whole of the new task into memory before training on it, and is no plug-in.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from avalanche.models import avalanche_forward
from torch import Tensor
from torch.nn.functional import one_hot

from cl_nvrm.errors import UserError
from cl_nvrm.plugins.label_noise_sgd import LabelNoisePlugin
from cl_nvrm.plugins.loss_terms import LossTerm
from cl_nvrm.plugins.memory import Rehearsal
from cl_nvrm.plugins.task_context import around_task


class ERACEPlugin(Rehearsal, LossTerm):
    """Takes other classes than the batch's out of its loss, and adds the loss of samples from memory.

    The former is the data's loss, the latter a ``LossTerm``: SI does not see its gradient, SAM refuses it, and NVRM's
    ``penalty_at=clean`` takes it at the clean weights. Classes are those of a sample's own head. ``strategy.mb_output``
    has all logits; what another plug-in had join the batch from memory keeps all its classes.

    UserError before training beside label noise, which may say that a sample is of a class that is left out.
    """

    name = "er-ace"

    def __init__(self, memory: int = 200, *, batch: int = 0, seed: int = 0) -> None:
        super().__init__(memory, batch=batch, seed=seed)
        self.later = False  # than in the first task

    @property
    def active(self) -> bool:
        """Whether there can be something in memory."""
        return self.memory.size > 0

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Refuse label noise."""
        super().before_training(strategy, **kwargs)
        if any(isinstance(plugin, LabelNoisePlugin) and plugin.active for plugin in strategy.plugins):
            raise UserError(
                "er-ace leaves classes that do not occur in a batch out of its loss, which label noise needs; take er"
            )

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Leave classes out from the second task on, for the length of the task."""
        if self.later:
            around_task(strategy, self, lambda: self._leaving_out(strategy))

    def term(self, strategy: Any) -> Tensor | None:
        """Return the loss of samples from memory; None in the first task."""
        drawn = self.draw(strategy) if self.later else None
        if drawn is None:
            return None
        logits = avalanche_forward(strategy.model, drawn["x"], drawn["task"])
        loss: Tensor = strategy._criterion(logits, drawn["y"])
        return loss

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Record how large the memory is."""
        super().after_training_exp(strategy, **kwargs)
        self.later = True

    @contextmanager
    def _leaving_out(self, strategy: Any) -> Iterator[None]:
        """Give the strategy a criterion that leaves classes out for the length of a ``with`` block."""
        criterion: Callable[[Tensor, Tensor], Tensor] = strategy._criterion

        def asymmetric(logits: Tensor, labels: Tensor) -> Tensor:
            if self._new and labels is strategy.mb_y:  # not samples from memory, nor what is evaluated
                new = len(self._new["y"])
                left_out = ~occurring(self._new["y"], self._new["task"], logits.shape[1])
                left_out = torch.cat([left_out, left_out.new_zeros(len(logits) - new, logits.shape[1])])
                logits = logits.masked_fill(left_out, torch.finfo(logits.dtype).min)
            return criterion(logits, labels)

        strategy._criterion = asymmetric
        try:
            yield
        finally:
            strategy._criterion = criterion


def occurring(labels: Tensor, tasks: Tensor, classes: int) -> Tensor:
    """Return, for each sample (n,) of a batch, whether a class occurs among those of its task (n, classes).

    >>> occurring(torch.tensor([0, 2, 1]), torch.tensor([0, 0, 5]), 3).int()
    tensor([[1, 0, 1],
            [1, 0, 1],
            [0, 1, 0]], dtype=torch.int32)
    """
    same = (tasks[:, None] == tasks).float()
    return same @ one_hot(labels, classes).float() > 0
