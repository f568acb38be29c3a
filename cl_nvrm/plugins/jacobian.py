"""Jacobian regularisation as an Avalanche plug-in: outputs should not change much where inputs change a little.

Hoffman, Roberts and Yaida, "Robust learning with Jacobian regularization", 2019 (arXiv 1908.02729): the loss gains
(λ/2) times the mean over the batch of ‖J(x)‖²_F, J = ∂z/∂x the Jacobian of the logits z (C,) by the inputs. For v drawn
uniformly from the unit sphere, ‖J‖²_F = C · E ‖vᵀJ‖², and vᵀJ is the gradient of vᵀz, one backward pass.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from cl_nvrm.errors import UserError
from cl_nvrm.plugins.loss_terms import LossTerm, compiled


class JacobianPlugin(LossTerm):
    """Adds (``lambda_``/2) · ‖J‖²_F, estimated from ``projections`` random directions a sample; 0: all C, exactly.

    Inputs are in the units the network sees. Samples of a batch must not mix in the network, as they do in BatchNorm:
    then J is that of the whole batch's logits. UserError before training if the network is compiled.
    """

    name = "jacobian"

    def __init__(self, lambda_: float = 0.01, *, projections: int = 1, seed: int = 0) -> None:
        super().__init__()
        if not (math.isfinite(lambda_) and lambda_ >= 0):
            raise UserError(f"lambda must be a finite number of at least 0, got {lambda_}")
        if projections < 0:
            raise UserError(f"projections must be at least 1, or 0 for the exact norm, got {projections}")
        self.lambda_, self.projections = lambda_, projections
        self.generator = torch.Generator().manual_seed(seed)

    @property
    def active(self) -> bool:
        """Whether λ > 0."""
        return self.lambda_ > 0

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Refuse a compiled network, whose gradient has no gradient."""
        if self.active and compiled(strategy.model):
            raise UserError(
                "jacobian takes the gradient of a gradient, which compiled code has not; leave out --compile"
            )

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Have the forward pass keep what a gradient by the inputs needs."""
        if self.lambda_:
            strategy.mbatch[0] = strategy.mb_x.detach().requires_grad_()

    def term(self, strategy: Any) -> Tensor | None:
        """Return (λ/2) · ‖J‖²_F, the mean over the batch."""
        if not self.lambda_:
            return None
        logits: Tensor = strategy.mb_output
        squares: list[Tensor] = []
        for v in self._directions(*logits.shape):
            (row,) = torch.autograd.grad(logits, strategy.mb_x, v.to(logits), create_graph=True)
            squares.append(row.square().sum() / len(logits))
        scale = 1.0 if not self.projections else logits.shape[1] / self.projections
        return self.lambda_ / 2 * scale * torch.stack(squares).sum()

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Leave inputs behind that are plain again."""
        strategy.mbatch[0] = strategy.mb_x.detach()

    def _directions(self, samples: int, classes: int) -> list[Tensor]:
        """Return unit vectors (n, C), one for each sample; drawn on the CPU, so that all devices see the same."""
        if not self.projections:
            return [torch.eye(classes)[c].expand(samples, -1) for c in range(classes)]
        drawn = torch.randn(self.projections, samples, classes, generator=self.generator)
        return list(normalize(drawn, dim=-1))
