"""Perturbed SGD: noise that is never removed, the control for NVRM's de-noising.

Xie et al., Neural Computation 2021, algorithm 2: θ ← θ - η ∇L(θ) + ξ. On a quadratic loss of curvature h the weights
spread 1/(ηh)² times as far as under NVRM with the same noise, so compare the two at scales chosen for each.
"""

from collections.abc import Iterable
from typing import Any

import torch

from cl_nvrm.optim.plain import SGD
from cl_nvrm.optim.wrapper import Closure, Wrapper


class PSGD(Wrapper):
    """Steps the wrapped optimizer, then adds noise for good; arguments as for ``NVRM``."""

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:  # type: ignore[override]
        """Step, then add fresh noise to every trainable weight that had a gradient."""
        loss = self.inner.step(closure) if closure else self.inner.step()
        for parameter, xi in self.perturbation.draw(p for p in self.weights if p.grad is not None):
            parameter.add_(xi)
        return loss


ELEMENTWISE = True  # each weight is stepped by itself, so that trials can be stacked


def optimizer(
    params: Iterable[Any],
    *,
    lr: float,
    weight_decay: float,
    momentum: float = 0.0,
    variability: float = 0.0001,
    seed: int,
) -> PSGD:
    """Build it around SGD for a run; ``lr``, ``weight_decay`` and ``seed`` come from the run."""
    inner = SGD(params, lr=lr, weight_decay=weight_decay, momentum=momentum, fused=True)
    return PSGD(inner, variability, seed=seed)
