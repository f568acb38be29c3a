"""Memory aware synapses as an Avalanche plug-in.

Aljundi et al., "Memory aware synapses: learning what (not) to forget", ECCV 2018 (arXiv 1711.09601): a weight matters
as much as it moves the network's outputs h, Ω_i = (1/N) Σ_n |∂‖h(x_n)‖² / ∂θ_i| (eq. 3, in the version for outputs of
several dimensions), and the next tasks pay λ Σ_i Ω_i (θ_i - θ*_i)² (eq. 4). No labels are needed.

Avalanche's own takes the absolute value of a mini-batch's mean gradient, in which samples cancel, and takes it in
training mode, which draws dropout masks and moves running statistics.
"""

from collections.abc import Iterable
from typing import Any, Literal, get_args

import torch
from avalanche.models.utils import is_multi_task_module
from torch import Tensor, nn

from cl_nvrm.analysis.modules import as_written
from cl_nvrm.benchmark import sampled_batches
from cl_nvrm.errors import UserError
from cl_nvrm.noise import Seed
from cl_nvrm.plugins.per_sample import (
    Objective,
    arguments_and_labels,
    gradients,
    mean_over_samples,
    per_trial,
    trainable,
)
from cl_nvrm.plugins.quadratic import QuadraticPenalty, Weights
from cl_nvrm.plugins.trials import trial_models

Of = Literal["samples", "batches"]
Outputs = Literal["sum", "mean"]


class MASPlugin(QuadraticPenalty):
    """MAS with strength ``lambda_`` ≥ 0 (no ½); ``samples`` of the task's training images are used (0: all).

    ``of="batches"`` takes the absolute value of the gradient of a mini-batch's mean ‖h‖², as widespread code does, in
    which samples cancel; ``outputs="mean"`` divides ‖h‖² by the number of outputs. Hsu et al. 2018 have both.

    As in the paper, importances of successive tasks are summed and there is one anchor, the latest weights; a running
    mean instead would let go of the first task as fast as tasks come. The pass over the data is at clean weights, in
    eval mode, and through the task's own head where there are several.
    """

    name = "mas"

    def __init__(
        self,
        lambda_: float = 0.01,
        *,
        samples: int = 2000,
        of: Of = "samples",
        outputs: Outputs = "sum",
        seed: Seed = 0,
    ) -> None:
        if not lambda_ >= 0:
            raise UserError(f"lambda must be at least 0, got {lambda_}")
        if samples < 0:
            raise UserError(f"samples must be at least 1, or 0 for all, got {samples}")
        for value, kind in ((of, Of), (outputs, Outputs)):
            if value not in get_args(kind):
                raise UserError(f"there is {' and '.join(get_args(kind))}, not '{value}'")
        super().__init__(lambda_)
        self.samples, self.of, self.outputs, self.seed = samples, of, outputs, seed

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Add the task's importances and move the anchor to its final weights."""
        size = 250 if self.of == "samples" else strategy.train_mb_size
        batches = (
            [part.to(strategy.device) for part in batch]
            for batch in sampled_batches(strategy.experience.dataset, size, self.samples, self.seed)
        )
        model, multi_task = strategy.model, is_multi_task_module(strategy.model)
        with torch.random.fork_rng(devices=[]):
            importance = self.measured(
                model,
                lambda: output_sensitivity(model, batches, multi_task=multi_task, of=self.of, outputs=self.outputs),
            )
        weights = self.learned_weights(model)
        self.anchor |= weights
        self.remember(importance, weights)


def output_sensitivity(
    model: Any,
    batches: Iterable[list[Tensor]],
    *,
    multi_task: bool = False,
    of: Of = "samples",
    outputs: Outputs = "sum",
) -> Weights:
    """Return the mean of |∂‖h(x)‖² / ∂θ| over samples, of each trainable parameter, in its shape, by name.

    ``batches`` yields inputs (n, …), class labels, which are not used, and, for a ``multi_task`` model, task labels.
    The absolute value is taken sample by sample, or with ``of="batches"`` of each batch's mean gradient;
    ``outputs="mean"`` has ‖h‖² divided by the number of outputs. The model is evaluated in eval mode and left as it
    was; no gradient is left on its parameters. Of a stack of trials, the sensitivities are those of the trials one by
    one, stacked.
    """
    if (models := trial_models(model)) is not None:
        return per_trial(
            models,
            batches,
            lambda one, own, _: output_sensitivity(one, own, multi_task=multi_task, of=of, outputs=outputs),
        )
    if of == "batches":
        return _of_batches(model, batches, multi_task=multi_task, outputs=outputs)
    return mean_over_samples(model, batches, lambda *_: SIZES[outputs], multi_task=multi_task)


def _of_batches(model: nn.Module, batches: Iterable[list[Tensor]], *, multi_task: bool, outputs: Outputs) -> Weights:
    """The mean over batches of the absolute gradient of the batch mean."""
    total = {name: torch.zeros_like(p) for name, p in trainable(model).items()}
    count = 0
    with as_written(model), torch.enable_grad():
        for arguments, _ in arguments_and_labels(batches, multi_task=multi_task):
            each = model(*arguments).square()
            score = (each.sum(1) if outputs == "sum" else each.mean(1)).mean()
            for name, g in gradients(score, trainable(model)).items():
                total[name] += g.abs()
            count += 1
    return {name: f / max(count, 1) for name, f in total.items()}


SIZES = {
    "sum": Objective(
        lambda outputs, _: outputs.square().sum(),
        lambda outputs, labels: [(labels, None, 2 * outputs.detach())],
        torch.abs,
    ),
    "mean": Objective(
        lambda outputs, _: outputs.square().mean(),
        lambda outputs, labels: [(labels, None, 2 * outputs.detach() / outputs.shape[1])],
        torch.abs,
    ),
}
