"""Memory aware synapses as an Avalanche plug-in.

Aljundi et al., "Memory aware synapses: learning what (not) to forget", ECCV 2018 (arXiv 1711.09601): a weight matters
as much as it moves the network's outputs h, Ω_i = (1/N) Σ_n |∂‖h(x_n)‖² / ∂θ_i| (eq. 3, in the version for outputs of
several dimensions), and the next tasks pay λ Σ_i Ω_i (θ_i - θ*_i)² (eq. 4). No labels are needed.

Avalanche's own takes the absolute value of a mini-batch's mean gradient, in which samples cancel, and takes it in
training mode, which draws dropout masks and moves running statistics.
"""

from collections.abc import Iterable
from typing import Any

import torch
from avalanche.models.utils import is_multi_task_module
from torch import Tensor

from cl_nvrm.benchmark import sampled_batches
from cl_nvrm.errors import UserError
from cl_nvrm.noise import Seed
from cl_nvrm.plugins.per_sample import Objective, mean_over_samples, per_trial
from cl_nvrm.plugins.quadratic import QuadraticPenalty, Weights
from cl_nvrm.plugins.trials import trial_models


class MASPlugin(QuadraticPenalty):
    """MAS with strength ``lambda_`` ≥ 0 (no ½); ``samples`` of the task's training images are used (0: all).

    As in the paper, importances of successive tasks are summed and there is one anchor, the latest weights; a running
    mean instead would let go of the first task as fast as tasks come. The pass over the data is at clean weights, in
    eval mode, and through the task's own head where there are several.
    """

    name = "mas"

    def __init__(self, lambda_: float = 0.01, *, samples: int = 2000, seed: Seed = 0) -> None:
        if not lambda_ >= 0:
            raise UserError(f"lambda must be at least 0, got {lambda_}")
        if samples < 0:
            raise UserError(f"samples must be at least 1, or 0 for all, got {samples}")
        super().__init__(lambda_)
        self.samples, self.seed = samples, seed

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Add the task's importances and move the anchor to its final weights."""
        batches = (
            [part.to(strategy.device) for part in batch]
            for batch in sampled_batches(strategy.experience.dataset, 250, self.samples, self.seed)
        )
        model, multi_task = strategy.model, is_multi_task_module(strategy.model)
        with torch.random.fork_rng(devices=[]):
            importance = self.measured(model, lambda: output_sensitivity(model, batches, multi_task=multi_task))
        weights = self.learned_weights(model)
        self.anchor |= weights
        self.remember(importance, weights)


def output_sensitivity(model: Any, batches: Iterable[list[Tensor]], *, multi_task: bool = False) -> Weights:
    """Return the mean of |∂‖h(x)‖² / ∂θ| over samples, of each trainable parameter, in its shape, by name.

    ``batches`` yields inputs (n, …), class labels, which are not used, and, for a ``multi_task`` model, task labels.
    The absolute value is taken sample by sample. The model is evaluated in eval mode and left as it was; no gradient is
    left on its parameters. Of a stack of trials, the sensitivities are those of the trials one by one, stacked.
    """
    if (models := trial_models(model)) is not None:
        return per_trial(models, batches, lambda one, own, _: output_sensitivity(one, own, multi_task=multi_task))
    return mean_over_samples(model, batches, lambda *_: SIZE, multi_task=multi_task)


SIZE = Objective(
    lambda outputs, _: outputs.square().sum(),
    lambda outputs, labels: [(labels, None, 2 * outputs.detach())],
    torch.abs,
)
