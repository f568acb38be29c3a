"""The diagonal of the Fisher information, sample by sample.

F_i = E_x E_y (∂ log p(y|x,θ) / ∂θ_i)². Squaring the gradient of a mini-batch *mean* instead, as some libraries do,
gives a number 40 to 250 times smaller that changes with the batch size. For networks of linear layers the per-sample
squares need no per-sample gradients: with inputs a and output gradients δ, ∂W = δ aᵀ, so Σ_n (∂W_n)² = (δ∘δ)ᵀ (a∘a),
one matrix product a layer.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy, one_hot, softmax

from cl_nvrm.errors import UserError
from cl_nvrm.noise import Seed
from cl_nvrm.plugins.per_sample import Weights, add_layer, averaged, heard, only_linear, per_trial, trainable
from cl_nvrm.plugins.trials import trial_models

Kind = Literal["exact", "sampled", "empirical", "batch"]


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
    ``sampled``, one draw from them a sample (Kirkpatrick et al. 2017); ``empirical``, the true ones. ``batch`` is
    Avalanche's: the mean over batches of the squared gradient of the batch mean. The model is evaluated in eval mode
    and left as it was; no gradient is left on its parameters.

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
    accumulate = _of_batch if kind == "batch" else _of_linear_layers if only_linear(model) else _of_any_layers

    def add(arguments: tuple[Any, ...], y: Tensor, before: int, total: Weights) -> int:
        generator = torch.Generator(y.device).manual_seed(first + before)
        accumulate(model, arguments, partial(_labels, kind, y, generator), total)
        return 1 if kind == "batch" else len(y)

    return averaged(model, batches, add, multi_task=multi_task)


Labels = Callable[[Tensor], list[tuple[Tensor, Tensor]]]


def _labels(kind: str, y: Tensor, generator: torch.Generator, logits: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The labels (n,) to take gradients for, each with its weight (n,)."""
    probabilities = softmax(logits.detach(), dim=1)
    ones = torch.ones_like(probabilities[:, 0])
    if kind == "exact":
        return [(torch.full_like(y, c), probabilities[:, c]) for c in range(logits.shape[1])]
    if kind == "sampled":
        return [(torch.multinomial(probabilities, 1, generator=generator)[:, 0], ones)]
    return [(y, ones)]


def _of_linear_layers(model: nn.Module, arguments: tuple[Any, ...], labels: Labels, total: Weights) -> None:
    logits, used = heard(model, arguments)
    if used is None:
        _of_any_layers(model, arguments, labels, total)
        return
    outputs = [output for _, output in used.values()]
    squares = [torch.zeros_like(output) for output in outputs]
    p = softmax(logits.detach(), dim=1)
    for y, weight in labels(logits):
        at_logits = p - one_hot(y, p.shape[1]).to(p.dtype)
        deltas = torch.autograd.grad(logits, outputs, at_logits, retain_graph=True, allow_unused=True)
        for square, delta in zip(squares, deltas, strict=True):
            if delta is not None:
                square += weight[:, None] * delta.square()
    for (prefix, (a, _)), square in zip(used.items(), squares, strict=True):
        add_layer(total, prefix, a.square(), square)


def _of_any_layers(model: nn.Module, arguments: tuple[Any, ...], labels: Labels, total: Weights) -> None:
    x, *task = arguments
    weights = {name: p.detach() for name, p in trainable(model).items()}

    def loss(weights: Weights, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(functional_call(model, weights, (x[None], *task)), y[None])

    with torch.no_grad():
        logits = model(*arguments)
    for y, weight in labels(logits):
        per_sample = vmap(grad(loss), in_dims=(None, 0, 0), chunk_size=64)(weights, x, y)
        for name, g in per_sample.items():
            total[name] += torch.einsum("n,n...->...", weight, g.square())


def _of_batch(model: nn.Module, arguments: tuple[Any, ...], labels: Labels, total: Weights) -> None:
    with torch.enable_grad():
        logits = model(*arguments)
        loss = cross_entropy(logits, labels(logits)[0][0])
    gradients = torch.autograd.grad(loss, list(trainable(model).values()), allow_unused=True)
    for name, g in zip(trainable(model), gradients, strict=True):
        if g is not None:
            total[name] += g.square()
