"""Gradients that join ``p.grad`` only before the optimizer's step.

Right after the backward pass ``p.grad`` is to be the gradient of the data's loss alone: SI's path integral and A-GEM's
projection read it there. So whatever else pulls at the weights (EWC, SI, MAS, L1, terms of the loss beside SI, A-GEM's
projection) keeps its gradient until ``before_update``:

    def before_backward(self, strategy, **kwargs):
        keep(strategy, self.name, {"layer.weight": pull})  # by the parameter's name

    def before_update(self, strategy, **kwargs):
        add_kept(strategy)  # whoever comes first adds those of all, the others find nothing left

They are summed in the order of their names, since (a + b) + c is not a + (b + c): with "ewc" and "si" kept in either
order, every weight gets its gradient plus (that of ewc + that of si), and the order of plug-ins changes no bit.
"""

from typing import Any

import torch
from torch import Tensor

Gradients = dict[str, Tensor]  # by parameter name, in the parameter's shape


def keep(strategy: Any, name: str, gradients: Gradients) -> None:
    """Keep the gradients of the plug-in ``name`` until this iteration's step; a second call replaces the first."""
    strategy.__dict__.setdefault("penalty_gradients", {})[name] = gradients


def are_kept(strategy: Any, name: str) -> bool:
    """Return whether gradients under that name wait for this iteration's step."""
    return name in vars(strategy).get("penalty_gradients", {})


@torch.no_grad()
def add_kept(strategy: Any) -> None:
    """Add all that is kept to ``p.grad``, once, summed in the order of names."""
    pending: dict[str, Gradients] = strategy.__dict__.pop("penalty_gradients", {})
    total: Gradients = {}
    for _, gradients in sorted(pending.items()):
        for name, gradient in gradients.items():
            total[name] = total[name] + gradient if name in total else gradient
    for name, parameter in strategy.model.named_parameters():
        if name in total and parameter.requires_grad:  # it may have been frozen since
            if parameter.grad is None or parameter.grad.is_sparse:
                parameter.grad = total[name].clone() if parameter.grad is None else total[name] + parameter.grad
            else:
                parameter.grad.add_(total[name])
