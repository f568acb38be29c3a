"""The diagonal of the Fisher information, sample by sample.

F_i = E_x E_y (∂ log p(y|x,θ) / ∂θ_i)². Squaring the gradient of a mini-batch *mean* instead, as some libraries do,
gives a number 40 to 250 times smaller that changes with the batch size. For networks of linear layers the per-sample
squares need no per-sample gradients: with inputs a and output gradients δ, ∂W = δ aᵀ, so Σ_n (∂W_n)² = (δ∘δ)ᵀ (a∘a),
one matrix product a layer.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy, one_hot, softmax

from cl_nvrm.errors import UserError
from cl_nvrm.noise import Seed

Kind = Literal["exact", "sampled", "empirical", "batch"]
Weights = dict[str, Tensor]


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
    if isinstance(seed, tuple):
        drawn = list(batches)
        each = [
            diagonal_fisher(alone, ([part[k] for part in b] for b in drawn), kind, multi_task=multi_task, seed=seed[k])
            for k, alone in enumerate(model.members())
        ]
        return {name: torch.stack([f[name] for f in each]) for name in each[0]}
    if kind not in get_args(Kind):
        raise UserError(f"fisher must be one of {', '.join(get_args(Kind))}, got '{kind}'")
    trainable: Weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p) for name, p in trainable.items()}
    accumulate = _of_batch if kind == "batch" else _of_linear_layers if _only_linear(model) else _of_any_layers
    modes = {module: module.training for module in model.modules()}
    model.eval()
    count = 0
    try:
        for x, y, *rest in batches:
            arguments: tuple[Any, ...] = (x,)
            if multi_task:
                labels = rest[-1].unique().tolist()
                if len(labels) != 1:
                    raise UserError("the Fisher information is taken one task at a time; this batch mixes task labels")
                arguments = (x, labels[0])
            generator = torch.Generator(x.device).manual_seed(seed + count)
            accumulate(model, trainable, arguments, partial(_labels, kind, y, generator), total)
            count += 1 if kind == "batch" else len(x)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return {name: f / max(count, 1) for name, f in total.items()}


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


def _only_linear(model: nn.Module) -> bool:
    linear = {id(p) for m in model.modules() if type(m) is nn.Linear for p in m.parameters()}
    trainable = [p for m in model.modules() for p in m.parameters(recurse=False) if p.requires_grad]
    shared = len(trainable) != len({id(p) for p in trainable})
    return not shared and all(id(p) in linear for p in trainable)


def _of_linear_layers(model: nn.Module, trainable: Weights, arguments: Any, labels: Labels, total: Weights) -> None:
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def record(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            seen.setdefault(name, []).append((inputs[0].detach(), output))
            return output.clone()  # an in-place activation after this layer must not overwrite what was recorded

        return hook

    linear = {name: m for name, m in model.named_modules() if type(m) is nn.Linear}
    hooks = [m.register_forward_hook(record(name)) for name, m in linear.items()]
    try:
        with torch.enable_grad():
            logits = model(*arguments)
    finally:
        for hook in hooks:
            hook.remove()
    if any(len(calls) > 1 or calls[0][0].ndim != 2 for calls in seen.values()):
        # A layer used twice, or on sequences: its per-sample gradient is a sum, to be squared as a whole.
        _of_any_layers(model, trainable, arguments, labels, total)
        return
    used = {name: calls[0] for name, calls in seen.items() if calls[0][1].requires_grad}
    outputs = [output for _, output in used.values()]
    squares = [torch.zeros_like(output) for output in outputs]
    p = softmax(logits.detach(), dim=1)
    for y, weight in labels(logits):
        at_logits = p - one_hot(y, p.shape[1]).to(p.dtype)
        deltas = torch.autograd.grad(logits, outputs, at_logits, retain_graph=True, allow_unused=True)
        for square, delta in zip(squares, deltas, strict=True):
            if delta is not None:
                square += weight[:, None] * delta.square()
    for (name, (a, _)), square in zip(used.items(), squares, strict=True):
        prefix = f"{name}." if name else ""  # the model may itself be a linear layer
        if f"{prefix}weight" in total:
            total[f"{prefix}weight"] += square.T @ a.square()
        if f"{prefix}bias" in total:
            total[f"{prefix}bias"] += square.sum(0)


def _of_any_layers(model: nn.Module, trainable: Weights, arguments: Any, labels: Labels, total: Weights) -> None:
    x, *task = arguments
    weights = {name: p.detach() for name, p in trainable.items()}

    def loss(weights: Weights, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(functional_call(model, weights, (x[None], *task)), y[None])

    with torch.no_grad():
        logits = model(*arguments)
    for y, weight in labels(logits):
        per_sample = vmap(grad(loss), in_dims=(None, 0, 0), chunk_size=64)(weights, x, y)
        for name, g in per_sample.items():
            total[name] += torch.einsum("n,n...->...", weight, g.square())


def _of_batch(model: nn.Module, trainable: Weights, arguments: Any, labels: Labels, total: Weights) -> None:
    with torch.enable_grad():
        logits = model(*arguments)
        loss = cross_entropy(logits, labels(logits)[0][0])
    gradients = torch.autograd.grad(loss, list(trainable.values()), allow_unused=True)
    for name, g in zip(trainable, gradients, strict=True):
        if g is not None:
            total[name] += g.square()
