"""Synaptic intelligence as an Avalanche plug-in.

Zenke, Poole and Ganguli, "Continual learning through synaptic intelligence", ICML 2017, eq. 3 to 5: each weight's
importance is its share of the loss decrease along the training path, ω_i = -Σ_t g_i(t) Δθ_i(t) with g the gradient of
the *unregularised* loss; at the end of a task Ω_i += max(0, ω_i) / ((θ_i - θ_i,start)² + ξ), and the next tasks pay c
Σ_i Ω_i (θ_i - θ*_i)².

Avalanche 0.6.0's own SI keeps a view of the live weights where it means to keep a copy, so on a CPU all its
importances are 0.
"""

from typing import Any

import torch

from cl_nvrm.errors import UserError
from cl_nvrm.plugins.quadratic import QuadraticPenalty, Weights, trainable_weights


class SIPlugin(QuadraticPenalty):
    """SI with strength ``c`` ≥ 0 (no ½) and damping ``xi`` > 0, in squared weight units.

    All reads are of clean weights: noise, where there is any, is on only between ``before_forward`` and
    ``after_backward``.
    """

    name = "si"
    reads_data_gradient = True  # terms of the loss then stay out of it

    def __init__(self, c: float = 0.1, *, xi: float = 0.1) -> None:
        if not c >= 0:
            raise UserError(f"c must be at least 0, got {c}")
        if not xi > 0:
            raise UserError(f"xi must be above 0, got {xi}")
        super().__init__(c)
        self.xi = xi
        self.omega: Weights = {}
        self._start: Weights = {}
        self._before: Weights = {}
        self._gradient: Weights = {}

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Start the path integral of a new task."""
        self._start = trainable_weights(strategy.model)
        self.omega = {name: torch.zeros_like(w) for name, w in self._start.items()}
        self._before = {name: w.clone() for name, w in self._start.items()}
        self._gradient = {name: torch.empty_like(w) for name, w in self._start.items()}

    @torch.no_grad()
    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Keep the weights before the step."""
        for name, parameter in self._parameters(strategy):
            self._before[name].copy_(parameter)

    @torch.no_grad()
    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Keep the gradient of the data loss, before any penalty joins it."""
        for name, parameter in self._parameters(strategy):
            if parameter.grad is None:
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
        """Turn the path integral into importances and move the anchor to the task's final weights."""
        weights = trainable_weights(strategy.model)
        importance = {
            name: omega.clamp(min=0) / ((weights[name] - self._start[name]).square() + self.xi)
            for name, omega in self.omega.items()
        }
        # One reference for all tasks: Ω sums up, the anchor is the latest.
        self.anchor |= weights
        self.remember(importance, weights)
        self._start, self._before, self._gradient = {}, {}, {}  # of no use until the next task, nor in a checkpoint

    def _parameters(self, strategy: Any) -> list[tuple[str, torch.nn.Parameter]]:
        return [(name, p) for name, p in strategy.model.named_parameters() if name in self.omega]
