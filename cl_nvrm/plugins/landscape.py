"""What becomes of the first task's minimum, as an Avalanche plug-in that only looks on.

Mirzadeh et al., "Understanding the role of training regimes in continual learning", NeurIPS 2020: forgetting of the
first task is bounded by ½ λ_max ‖θ_t - θ_1‖², so a method may forget less because it moves less, or because its minimum
is flatter. Flatness is taken as the expected rise of the loss under weight noise, E L(θ + ξ) - L(θ) with ξ ~ N(0, b²),
about ½ b² times the trace of the Hessian.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from avalanche.models import avalanche_forward
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cl_nvrm.benchmark import sampled_batches
from cl_nvrm.errors import UserError
from cl_nvrm.noise import weight_noise
from cl_nvrm.plugins.quadratic import trainable_weights


class LandscapePlugin(SupervisedPlugin):
    """Records, after every task, where the first task's minimum is left, and how flat its loss is there.

    ``diagnostics`` has ``moved``, ‖θ_t - θ_1‖ / ‖θ_1‖ over the weights that were there after the first task;
    ``first_loss``, the mean cross-entropy of up to ``samples`` ≥ 1 training samples of the first task; and
    ``first_rise``, by how much Gaussian noise of standard deviation ``b`` > 0 on all weights raises it, a mean of
    ``draws`` ≥ 1. Training is not touched: evaluation mode, clean weights, a generator of its own.
    """

    def __init__(self, b: float = 0.03, *, draws: int = 5, samples: int = 2000, seed: int = 0) -> None:
        super().__init__()
        if not (math.isfinite(b) and b > 0):
            raise UserError(f"b must be a finite number above 0, got {b}")
        if draws < 1 or samples < 1:
            raise UserError(f"draws and samples must be at least 1, got {draws} and {samples}")
        self.b, self.draws, self.samples, self.seed = b, draws, samples, seed
        self.first: dict[str, Tensor] = {}
        self.batches: list[list[Tensor]] = []
        self.diagnostics: dict[str, float] = {}

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Look at the weights that the task has left."""
        model = strategy.model
        if not self.batches:
            drawn = sampled_batches(strategy.experience.dataset, 500, self.samples, self.seed)
            self.batches = [[part.to(strategy.device) for part in batch] for batch in drawn]
            self.first = trainable_weights(model)
        loss = self._loss(model)
        noisy = []
        for draw in range(self.draws):
            with weight_noise(model, self.b, seed=self.seed + draw):
                noisy.append(self._loss(model))
        self.diagnostics = {
            "moved": self._moved(model),
            "first_loss": loss,
            "first_rise": sum(noisy) / len(noisy) - loss,
        }

    def _moved(self, model: nn.Module) -> float:
        now = trainable_weights(model)
        pairs = [(old, now[name]) for name, old in self.first.items() if name in now and now[name].shape == old.shape]
        gap = sum(float((new - old).double().square().sum()) for old, new in pairs)
        size = sum(float(old.double().square().sum()) for old, _ in pairs)
        return math.sqrt(gap / size) if size else 0.0

    @torch.no_grad()
    def _loss(self, model: nn.Module) -> float:
        total, count = 0.0, 0
        with _evaluated(model), torch.random.fork_rng(devices=[]):
            for x, y, task, *_ in self.batches:
                outputs = avalanche_forward(model, x, task)
                total += float(cross_entropy(outputs.float(), y, reduction="sum"))
                count += len(y)
        return total / count


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, and each of its modules as before afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
