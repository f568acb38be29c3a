"""Synaptic intelligence as an Avalanche plug-in.

Zenke, Poole and Ganguli, "Continual learning through synaptic intelligence", ICML 2017, eq. 3 to 5: each weight's
importance is its share of the loss decrease along the training path, ω_i = -Σ_t g_i(t) Δθ_i(t) with g the gradient of
the *unregularised* loss; at the end of a task Ω_i += ω_i / ((θ_i - θ_i,start)² + ξ), and the next tasks pay c Σ_i Ω_i
(θ_i - θ*_i)². The paper says nothing of ω_i below 0; what codes do with it is the option ``clamp``.

Avalanche 0.6.0's own SI keeps a view of the live weights where it means to keep a copy, so on a CPU all its
importances are 0.
"""

from typing import Any, Literal, get_args

import torch

from cl_nvrm.errors import UserError
from cl_nvrm.plugins.quadratic import QuadraticPenalty, Weights, grown

Clamp = Literal["task", "sum", "none"]


class SIPlugin(QuadraticPenalty):
    """SI with strength ``c`` ≥ 0 (no ½) and damping ``xi`` > 0, in squared weight units.

    ``clamp`` says where importances below 0, of weights that moved against the gradient, become 0: in each ``task``, as
    here by default; in the running ``sum`` over tasks, as in the authors' code; in ``none``, as in that of Hsu et al.
    2018.

    All reads are of clean weights: noise, where there is any, is on only between ``before_forward`` and
    ``after_backward``.
    """

    name = "si"
    reads_data_gradient = True  # terms of the loss then stay out of it

    def __init__(self, c: float = 0.1, *, xi: float = 0.1, clamp: Clamp = "task") -> None:
        if not c >= 0:
            raise UserError(f"c must be at least 0, got {c}")
        if not xi > 0:
            raise UserError(f"xi must be above 0, got {xi}")
        if clamp not in get_args(Clamp):
            raise UserError(f"clamp must be one of {', '.join(get_args(Clamp))}, got '{clamp}'")
        super().__init__(c)
        self.xi, self.clamp = xi, clamp
        self.omega: Weights = {}
        self._start: Weights = {}
        self._before: Weights = {}
        self._gradient: Weights = {}

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Start the path integral of a new task."""
        self.omega, self._start, self._before, self._gradient = {}, {}, {}, {}

    @torch.no_grad()
    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Keep the weights before the step; of frozen ones, which stay where they are, once a task."""
        for name, parameter in strategy.model.named_parameters():
            if name not in self._start or self._start[name].shape != parameter.shape:
                self._start[name] = grown(self._start.get(name), parameter.detach(), new=parameter)
            if name in self.omega or parameter.requires_grad:
                self._make_room(name)
                self._before[name].copy_(parameter)

    @torch.no_grad()
    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Keep the gradient of the data loss, before any penalty joins it; of a frozen weight, 0."""
        for name, parameter in strategy.model.named_parameters():
            if parameter.requires_grad and name in self._start and name not in self.omega:  # since this step began
                self._make_room(name)
        for name, parameter in self._parameters(strategy):
            if parameter.grad is None or not parameter.requires_grad:
                self._gradient[name].zero_()
            else:
                self._gradient[name].copy_(parameter.grad.to_dense())

    @torch.no_grad()
    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Add this step to the path integral."""
        for name, parameter in self._parameters(strategy):
            moved = torch.sub(parameter, self._before[name], out=self._before[name])
            self.omega[name].addcmul_(self._gradient[name], moved, value=-1)

    @torch.no_grad()
    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Turn the path integral into importances and move the anchor to the task's final weights.

        A layer that was frozen on the way has the importances of its steps until then.
        """
        weights = self.learned_weights(strategy.model)
        importance = {
            name: (omega.clamp(min=0) if self.clamp == "task" else omega)
            / ((weights[name] - self._start[name]).square() + self.xi)
            for name, omega in self.omega.items()
            if name in weights and weights[name].shape == omega.shape
        }
        if self.clamp == "sum":
            before = {name: grown(self.importance.get(name), own) for name, own in importance.items()}
            importance = {name: (before[name] + own).clamp(min=0) - before[name] for name, own in importance.items()}
        # One reference for all tasks: Ω sums up, the anchor is the latest.
        self.anchor |= weights
        self.remember(importance, weights)
        self._start, self._before, self._gradient = {}, {}, {}  # of no use until the next task, nor in a checkpoint

    def _make_room(self, name: str) -> None:
        """Start a weight's path, or that of what its layer has gained in the middle of the task."""
        start = self._start[name]
        if name not in self.omega or self.omega[name].shape != start.shape:
            self.omega[name] = grown(self.omega.get(name), start)
            self._before[name], self._gradient[name] = start.clone(), torch.zeros_like(start)

    def _parameters(self, strategy: Any) -> list[tuple[str, torch.nn.Parameter]]:
        found = strategy.model.named_parameters()
        return [(name, p) for name, p in found if name in self.omega and p.shape == self.omega[name].shape]
