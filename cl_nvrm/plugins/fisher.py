"""The diagonal of the Fisher information, sample by sample.

F_i = E_x E_y (∂ log p(y|x,θ) / ∂θ_i)². Squaring the gradient of a mini-batch *mean* instead, as some libraries do,
gives a number 40 to 250 times smaller that changes with the batch size. For networks of linear layers the per-sample
squares need no per-sample gradients: with inputs a and output gradients δ, ∂W = δ aᵀ, so Σ_n (∂W_n)² = (δ∘δ)ᵀ (a∘a),
one matrix product a layer.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot, softmax

from cl_nvrm.analysis.modules import as_written
from cl_nvrm.errors import UserError
from cl_nvrm.noise import Seed
from cl_nvrm.plugins.per_sample import (
    Objective,
    Weights,
    arguments_and_labels,
    gradients,
    mean_over_samples,
    per_trial,
    trainable,
)
from cl_nvrm.plugins.trials import trial_models

Kind = Literal["exact", "sampled", "empirical", "predicted", "batch"]


def diagonal_fisher(
    model: Any,
    batches: Iterable[list[Tensor]],
    kind: str = "exact",
    *,
    multi_task: bool = False,
    seed: Seed = 0,
) -> Weights:
    """Return the mean diagonal Fisher information of each trainable parameter, in its shape, by name.

    ``batches`` yields inputs, class labels and, for a ``multi_task`` model, task labels. ``kind`` says which labels
    y: ``exact``, the expectation over the model's own predictions, summed over all classes (Martens 2020);
    ``sampled``, one draw from them a sample (Kirkpatrick et al. 2017); ``empirical``, the true ones; ``predicted``, the
    likeliest one (Hsu et al. 2018). ``batch`` is Avalanche's: the mean over batches of the squared gradient of the
    batch mean. The model is evaluated in eval mode and left as it was; no gradient is left on its parameters.

    Of a stack of trials, each with its own seed, the importances are those of the trials one by one, stacked.
    """
    if (models := trial_models(model)) is not None:
        seeds = cast(tuple[int, ...], seed)
        return per_trial(
            models,
            batches,
            lambda one, own, k: diagonal_fisher(one, own, kind, multi_task=multi_task, seed=seeds[k]),
        )
    if kind not in get_args(Kind):
        raise UserError(f"fisher must be one of {', '.join(get_args(Kind))}, got '{kind}'")
    first = cast(int, seed)
    if kind == "batch":
        return _of_batches(model, batches, multi_task=multi_task)

    def objective(before: int, y: Tensor) -> Objective:
        generator = torch.Generator(y.device).manual_seed(first + before)
        return Objective(cross_entropy, partial(_targets, kind, generator), torch.square)

    return mean_over_samples(model, batches, objective, multi_task=multi_task)


def _targets(
    kind: str, generator: torch.Generator, logits: Tensor, y: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The labels (n,) to take gradients for, each with its weight (n,) and the loss's gradient at the logits."""
    p = softmax(logits.detach(), dim=1)
    ones = torch.ones_like(p[:, 0])
    if kind == "exact":
        labels = [(torch.full_like(y, c), p[:, c]) for c in range(logits.shape[1])]
    elif kind == "sampled":
        labels = [(torch.multinomial(p, 1, generator=generator)[:, 0], ones)]
    else:
        labels = [(p.argmax(1) if kind == "predicted" else y, ones)]
    for label, weight in labels:
        yield label, weight, p - one_hot(label, p.shape[1]).to(p.dtype)


def _of_batches(model: nn.Module, batches: Iterable[list[Tensor]], *, multi_task: bool) -> Weights:
    """The mean over batches of the squared gradient of the batch mean."""
    total = {name: torch.zeros_like(p) for name, p in trainable(model).items()}
    count = 0
    with as_written(model), torch.enable_grad():
        for arguments, y in arguments_and_labels(batches, multi_task=multi_task):
            for name, g in gradients(cross_entropy(model(*arguments), y), trainable(model)).items():
                total[name] += g.square()
            count += 1
    return {name: f / max(count, 1) for name, f in total.items()}
