"""The l1 norm of the weights as an Avalanche plug-in: λ Σ |θ| joins the loss (Tibshirani, JRSS B 58(1), 1996)."""

import math
from typing import Any

import torch
from avalanche.core import SupervisedPlugin

from cl_nvrm.errors import UserError
from cl_nvrm.plugins.gradients import add_kept, keep
from cl_nvrm.plugins.trials import rows, trials_of


class L1Plugin(SupervisedPlugin):
    """Adds ``lambda_`` ≥ 0 times the sum of the absolute values of all trainable weights, biases included.

    The subgradient λ sign(θ), 0 at 0, is taken at the weights of the forward pass (under NVRM the perturbed ones) and
    joins ``p.grad`` before the step, outside of the autograd graph, as that of EWC and SI does. Under Adam it is scaled
    like any gradient. l2 is the run's weight decay.
    """

    name = "l1"
    elementwise = True  # works on a stack of trials, too

    def __init__(self, lambda_: float = 1e-4) -> None:
        super().__init__()
        if not (math.isfinite(lambda_) and lambda_ >= 0):
            raise UserError(f"lambda must be a finite number of at least 0, got {lambda_}")
        self.lambda_ = lambda_

    @torch.no_grad()
    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Add the penalty's value to the loss and keep its gradient for ``before_update``."""
        weights = {name: p for name, p in strategy.model.named_parameters() if p.requires_grad}
        if not self.lambda_ or not weights:
            return
        sizes = torch.stack([rows(p.abs(), trials_of(strategy)).sum(1) for p in weights.values()])
        with torch.enable_grad():
            strategy.loss = strategy.loss + (self.lambda_ * sizes.sum(0)).to(strategy.loss).view_as(strategy.loss)
        gradients = {name: self.lambda_ * p.sign() for name, p in weights.items()}
        keep(strategy, self.name, gradients)

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        """Add the gradients of all penalties to ``p.grad``, if no other plug-in has done so already."""
        add_kept(strategy)
