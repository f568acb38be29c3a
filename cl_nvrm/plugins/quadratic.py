"""QuadraticPenalty: what EWC and SI share, a pull of each weight towards where earlier tasks left it.

The sum over past tasks Σ_k F_k (θ - θ_k)² equals S (θ - μ)² + c, with S = Σ F_k, μ the F-weighted mean of the θ_k and
c the weighted scatter around it (the parallel-axis theorem). So two tensors and one number hold any number of tasks,
exactly; all three are sums of non-negative terms, so nothing cancels in floating point.

One weight left at 1 with importance 1, then at 3 with importance 3: S = 4, μ = 2.5, c = 1·1.5² + 3·0.5² = 3, and at
θ = 0 both sides are 1·1 + 3·9 = 28 = 4·2.5² + 3. With importances 2 and 0, as of a head that the second task does not
touch: S = 2, μ = 1, c = 0; the pull stays where the first task left it.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from torch import Tensor

from cl_nvrm.errors import UserError
from cl_nvrm.plugins.gradients import add_kept, keep
from cl_nvrm.plugins.trials import PerTrial, plain, rows, trials_of

Weights = dict[str, Tensor]


class QuadraticPenalty(SupervisedPlugin):
    """Adds ``strength`` · Σ importance (θ - anchor)² to the loss.

    The penalty's value joins ``strategy.loss`` before the backward pass; its gradient, taken at the weights of that
    moment (under NVRM the perturbed ones), joins ``p.grad`` before the optimizer's step. Kept out of the autograd
    graph, it costs two passes over the weights, and has no part in ``p.grad`` right after the backward pass.
    """

    name: str  # the order in which several penalties are summed, so that the order of plug-ins does not matter
    elementwise = True  # works on a stack of trials, too
    learned: frozenset[str] | set[str] = frozenset()  # names of what has been trainable in some step so far

    def __init__(self, strength: float) -> None:
        super().__init__()
        if not (math.isfinite(strength) and strength >= 0):
            raise UserError(f"the penalty's strength must be a finite number of at least 0, got {strength}")
        self.strength = strength
        self.importance: Weights = {}
        self.anchor: Weights = {}
        self.scatter: Tensor | float = 0.0  # in a stack, one number a trial
        self.trials: int | None = None
        self.diagnostics: dict[str, PerTrial] = {}
        self._pull: Weights = {}

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Notice whether this is a stack of trials."""
        self.trials = trials_of(strategy)

    @torch.no_grad()
    def remember(self, importance: Weights, weights: Weights) -> None:
        """Add one task: its importances and its final weights, each by parameter name.

        Importances below 0 are for an anchor that has been moved to the final weights before.

        RuntimeError if every importance is 0: such a regulariser does nothing and would pass for the plain method.
        """
        total = sum(rows(f, self.trials).sum(1) for f in importance.values())
        size = sum(rows(f, self.trials).abs().sum(1) for f in importance.values())
        if not (isinstance(total, Tensor) and isinstance(size, Tensor) and bool((size > 0).all())):
            raise RuntimeError(f"every importance of {self.name} is 0 after this task, so its penalty would do nothing")
        for name, new in importance.items():
            old = grown(self.importance.get(name), new)
            mean = grown(self.anchor.get(name), new)
            both = old + new
            gap = weights[name] - mean
            share = torch.where(both > 0, new / both, torch.ones_like(both))
            self.scatter = self.scatter + rows(old * share * gap.square(), self.trials).sum(1)
            self.importance[name] = both
            self.anchor[name] = torch.where(share == 1, weights[name], mean + share * gap)
        flat = torch.cat([rows(f, self.trials) for f in importance.values()], dim=1)
        measured = {"sum": total, "max": flat.amax(1), "nonzero": (flat > 0).double().mean(1)}
        self.diagnostics = {f"importance_{key}": plain(value, self.trials) for key, value in measured.items()}

    def measured(self, model: torch.nn.Module, measure: Callable[[], Weights]) -> Weights:
        """Return ``measure()`` with importances of all that has learned so far, also of what is frozen by now.

        What is frozen now may learn again, and what it has learned matters as much. A frozen weight's importances are
        left out if they are all 0, as those of other tasks' heads are.
        """
        frozen = {n: p for n, p in model.named_parameters() if n in self.learned and not p.requires_grad}
        try:
            for parameter in frozen.values():
                parameter.requires_grad_(True)
            importance = measure()
        finally:
            for parameter in frozen.values():
                parameter.requires_grad_(False)
        return {name: f for name, f in importance.items() if name not in frozen or bool(f.any())}

    def learned_weights(self, model: torch.nn.Module) -> Weights:
        """Return detached copies of all that has learned so far, or can now, by name, as far as it is there."""
        found = model.named_parameters()
        return {name: p.detach().clone() for name, p in found if p.requires_grad or name in self.learned}

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Add the penalty's value to the loss and keep its gradient for ``before_update``."""
        new = [n for n, p in strategy.model.named_parameters() if p.requires_grad and n not in self.learned]
        if new:
            self.learned = {*self.learned, *new}
        if self.importance:
            value, gradients = self._evaluate(strategy.model)
            strategy.loss = strategy.loss + value.to(strategy.loss).view_as(strategy.loss)
            keep(strategy, self.name, gradients)

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        """Add the gradients of all penalties to ``p.grad``, if no other plug-in has done so already."""
        add_kept(strategy)

    @torch.no_grad()
    def _evaluate(self, model: torch.nn.Module) -> tuple[Tensor, Weights]:
        """The penalty of each trial and its gradient at the present weights; the gradient lies where the next will."""
        value: Any = self.scatter
        for name, parameter in model.named_parameters():
            if name not in self.importance or not parameter.requires_grad:
                self._pull.pop(name, None)
                continue
            anchor, importance = grown(self.anchor[name], parameter), grown(self.importance[name], parameter)
            out = self._pull.get(name)
            if out is None or out.shape != parameter.shape:
                out = self._pull[name] = torch.empty_like(parameter)
            from cl_nvrm.noise.kernels import penalty  # imports numba, which the first task does not need

            if penalty.fits(out, parameter, anchor, importance):
                parts = zip(*(rows(t.data, self.trials) for t in (out, parameter, anchor, importance)), strict=True)
                value = value + torch.tensor([penalty.pull(o, w, a, f, 2 * self.strength) for o, w, a, f in parts])
            else:
                gap = parameter - anchor
                torch.mul(importance, gap, out=out)
                value = value + rows(out * gap, self.trials).sum(1)
                out.mul_(2 * self.strength)
        return torch.as_tensor(self.strength * value), self._pull


def trainable_weights(model: torch.nn.Module) -> Weights:
    """Return detached copies of the trainable parameters by name."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def grown(old: Tensor | None, like: Tensor, new: Tensor | None = None) -> Tensor:
    """Return ``old`` in the shape of ``like``, with zeros, or what ``new`` has there, where a layer has grown since.

    Of a layer that has shrunk, the part that is left; of another kind of layer under its name, nothing.
    """
    if old is not None and old.shape == like.shape:
        return old
    result = torch.zeros_like(like) if new is None else new.detach().clone()
    if old is not None and old.ndim == like.ndim:
        both = tuple(slice(min(sizes)) for sizes in zip(old.shape, like.shape, strict=True))
        result[both] = old[both]
    return result
