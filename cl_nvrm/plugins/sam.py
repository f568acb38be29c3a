"""Sharpness-aware minimisation as an Avalanche plug-in: each step follows the gradient from where the loss is worse.

Foret et al., "Sharpness-aware minimization for efficiently improving generalization", ICLR 2021 (arXiv 2010.01412):
with g the gradient at θ, ε = ρ g/‖g‖ (eq. 2), and the optimizer gets the gradient at θ + ε (eq. 3).
Kwon et al., "ASAM: adaptive sharpness-aware minimization for scale-invariant learning of deep neural networks", ICML
2021 (arXiv 2102.11600): ε = ρ T²g/‖Tg‖, T the size of each weight, so that rescaling layers does not change sharpness.

Penalties stay outside of the maximum, as in Foret's eq. 1: ε comes from the loss on the batch alone, and EWC and SI are
taken at the weights without ε. Under NVRM, θ is the noisy θ + ξ, with one ξ for both passes.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from torch import Tensor
from torch.nn.utils import get_total_norm

from cl_nvrm.errors import UserError
from cl_nvrm.plugins.gradients import are_kept
from cl_nvrm.plugins.loss_terms import GRADIENTS, LossTerm
from cl_nvrm.plugins.nvrm import NVRMPlugin
from cl_nvrm.plugins.task_context import around_task


class SAMPlugin(SupervisedPlugin):
    """Two forward and backward passes a step: one for ε, of length ``rho`` ≥ 0, one for the gradient at θ + ε.

    The length is the Euclidean one over all weights that have a gradient. With a number ``eta`` ≥ 0 it is ASAM's, in
    which parameters with "weight" in their names, those of normalisation layers among them, count relative to |θ| +
    ``eta``, and all others, such as biases, as they are; that is the rule of the authors' code. At ``rho`` 0 there is
    one pass, and nothing is touched. Of several such plug-ins the ε add up.

    ``strategy.loss`` and ``mb_output`` are those of the first pass, running statistics move in the first pass alone,
    and the weights come back bit for bit, whatever happens. The place among the plug-ins does not matter.

    UserError before training with NVRM's ``penalty_at=clean`` or an active ``LossTerm`` (NSR, Jacobian, distillation),
    and in training once another plug-in adds to the loss what depends on the weights: the second pass would leave it
    out.
    """

    def __init__(self, rho: float = 0.05, *, eta: float | None = None) -> None:
        super().__init__()
        for name, value in (("rho", rho), ("eta", eta)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UserError(f"{name} must be a finite number of at least 0, got {value}")
        self.rho, self.eta = rho, eta

    @torch.no_grad()
    def ascent(self, weights: Iterable[tuple[str, Tensor]]) -> list[Tensor]:
        """Return ε for each of the named weights, from their gradients; all zeros where the gradient is 0."""
        named = list(weights)
        gradients: list[Any] = [w.grad for _, w in named]
        sizes: list[Any] = [
            1.0 if self.eta is None or "weight" not in name else w.abs() + self.eta for name, w in named
        ]
        scaled = [size * g for size, g in zip(sizes, gradients, strict=True)]
        norm = get_total_norm(scaled)
        length = torch.where(norm > 0, self.rho / norm, 0.0)
        return [length * (size * g) for size, g in zip(sizes, scaled, strict=True)]

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Refuse what the second pass could not repeat: terms, and noise that is in the first forward pass only."""
        added = sorted(p.name for p in strategy.plugins if isinstance(p, LossTerm) and p.active)
        if self.rho and added:
            raise UserError(_refusal(f", here {', '.join(added)}"))
        if self.rho and any(isinstance(p, NVRMPlugin) and p.penalty_at == "clean" for p in strategy.plugins):
            raise UserError("sam and asam take both passes at the noisy weights; write nvrm:penalty_at=noisy")

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Double the passes of the training that follows, the first plug-in of this kind for all of them."""
        ascending = [p for p in strategy.plugins if isinstance(p, SAMPlugin) and p.rho]
        if not ascending or ascending[0] is not self:
            return
        in_order = sorted(ascending, key=lambda p: (p.eta is not None, p.eta, p.rho))
        around_task(strategy, self, lambda: _two_passes(strategy, in_order))


@contextmanager
def _two_passes(strategy: Any, plugins: list[SAMPlugin]) -> Iterator[None]:
    """Give the strategy a ``backward`` of two passes for the length of a ``with`` block."""
    criterion: Callable[[], Tensor] = strategy.criterion
    backward: Callable[[], None] = strategy.backward
    batch_loss: list[Tensor] = []

    def noted() -> Tensor:
        batch_loss[:] = [criterion()]
        return batch_loss[0]

    def both() -> None:
        if are_kept(strategy, GRADIENTS) or _has_more(strategy.loss, batch_loss):
            raise UserError(_refusal(", as Avalanche's own LwF and MAS do"))
        batch_loss.clear()
        backward()
        trained = (p for group in strategy.optimizer.param_groups for p in group["params"])
        weights = [p for p in trained if p.grad is not None and p.requires_grad]
        names = {id(p): name for name, p in strategy.model.named_parameters()}
        named = [(names.get(id(p), ""), p) for p in weights]  # the optimizer may still hold what has left the model
        output, loss = strategy.mb_output, strategy.loss
        with _displaced(strategy.model, weights, [plugin.ascent(named) for plugin in plugins]):
            try:
                for weight in weights:
                    weight.grad = None  # not optimizer.zero_grad(), at which some optimizers draw noise
                strategy.mb_output = strategy.forward()
                strategy.loss = criterion()
                backward()
            finally:
                strategy.mb_output, strategy.loss = output, loss

    strategy.criterion, strategy.backward = noted, both
    try:
        yield
    finally:
        for wrapped in ("criterion", "backward"):
            vars(strategy).pop(wrapped, None)


@contextmanager
def _displaced(model: torch.nn.Module, weights: list[Tensor], ascents: list[list[Tensor]]) -> Iterator[None]:
    """Move the weights by the sum of ``ascents`` for a ``with`` block; then they and the model's buffers come back."""
    kept = [(tensor, tensor.detach().clone()) for tensor in (*weights, *model.buffers())]
    try:
        with torch.no_grad():
            for ascent in ascents:
                for weight, epsilon in zip(weights, ascent, strict=True):
                    weight.add_(epsilon)
        yield
    finally:
        with torch.no_grad():
            for tensor, before in kept:
                tensor.copy_(before)


def _refusal(by: str) -> str:
    return f"sam and asam cannot repeat what another plug-in adds to the loss{by}; train without it, or take ewc or mas"


def _has_more(loss: Tensor, batch_loss: list[Tensor]) -> bool:
    """Whether the loss depends on the weights by another way than the loss on the batch."""
    seen: set[Any] = {None, *(part.grad_fn for part in batch_loss)}
    ahead = [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            if not node.next_functions:  # a leaf: a weight
                return True
            ahead += [before for before, _ in node.next_functions]
    return False
