"""The implicit regulariser of label-noise SGD: how far a step on one sample moves a network's outputs, on average.

Blanc, Gupta, Valiant and Valiant, COLT 2020 (arXiv 1904.09080): on the squared loss, label noise of variance σ² under
batches of one and the step size η acts as (η σ²/4) of it added to ½(h - y)², in time ~ 1/(η²σ²) steps.

A linear layer needs no per-sample gradients: with its inputs a and the gradient δ at its outputs, ∂W = δ aᵀ and
‖∂W‖² = ‖δ‖² ‖a‖². In a convolution δ (units, places) and a (places, patch) are matrices, and ‖δ a‖² is ⟨δᵀδ, a aᵀ⟩,
which is less work where there are fewer places than values in a patch.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.nn.functional import unfold

from cl_nvrm.analysis.modules import as_written, listening, wide, wide_norms
from cl_nvrm.analysis.ways import Ways
from cl_nvrm.errors import UserError

NUMBERS = 1 << 24  # entries of per-sample gradients held at once
AT_ONCE = 64  # samples that go through the network at once where there are no such gradients


@torch.no_grad()
def implicit_regulariser(model: nn.Module, inputs: Tensor, *more: Any) -> float:
    """Return (1/n) Σ_i Σ_c ‖∇_θ h_c(x_i, θ)‖² over inputs (n, …), outputs c and the distinct trainable weights θ.

    h is what the model returns, in eval mode: logits, not probabilities; a single output is the paper's case. ``more``
    (a task label) goes to the model as it is. The model is left as it was, without gradients.
    """
    if not len(inputs):
        raise UserError("the implicit regulariser is a mean over samples, and there are none")
    if not any(p.requires_grad for p in model.parameters()):
        return 0.0
    ways: Ways[Way] = Ways(model, [_by_products, _by_gradients, _one_by_one])

    def of(way: Way, x: Tensor) -> Tensor:
        return way(model, x, more, _each_output)

    def in_one_direction(way: Way, x: Tensor) -> list[Tensor]:
        return [way(model, x, more, _any_direction)]

    with as_written(model):
        return sum(float(ways.take(x, in_one_direction, partial(of, x=x))) for x in inputs.split(AT_ONCE)) / len(inputs)


Directions = Callable[[Tensor], Tensor]  # of outputs (…, c), what is differentiated: (k, c)
Way = Callable[[nn.Module, Tensor, tuple[Any, ...], Directions], Tensor]


def _each_output(outputs: Tensor) -> Tensor:
    return torch.eye(outputs.shape[-1], device=outputs.device, dtype=outputs.dtype)


def _any_direction(outputs: Tensor) -> Tensor:
    # of different entries, as drawn; vmap lets nobody draw
    return torch.arange(1, outputs.shape[-1] + 1, device=outputs.device).square().cos().to(outputs.dtype)[None]


def _one_by_one(model: nn.Module, inputs: Tensor, more: tuple[Any, ...], directions: Directions) -> Tensor:
    """Σ_i Σ_c ‖∇_θ h_c(x_i, θ)‖² of any network, one sample and direction at a time."""
    weights = [p for p in model.parameters() if p.requires_grad]
    total = torch.zeros((), dtype=torch.float64, device=inputs.device)
    for x in inputs.split(1):
        with torch.enable_grad():
            outputs = model(x, *more).flatten()
        if outputs.requires_grad:
            for one in directions(outputs):
                found = torch.autograd.grad(outputs, weights, one, retain_graph=True, allow_unused=True)
                total += sum(g.to_dense().square().sum().double() for g in found if g is not None)
    return total


def _by_gradients(model: nn.Module, inputs: Tensor, more: tuple[Any, ...], directions: Directions) -> Tensor:
    """The same of any network that ``vmap`` goes through."""
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}

    def of_sample(x: Tensor) -> Tensor:
        linearised: tuple[Any, ...] = vjp(lambda w: functional_call(model, w, (x[None], *more)).flatten(), weights)
        outputs, pull = linearised
        # one output at a time: gradients of all of them together would not fit for large networks
        each = [_squares(pull, one) for one in directions(outputs)]
        return torch.stack(each).sum()

    many = max(1, min(len(inputs), NUMBERS // sum(w.numel() for w in weights.values())))
    with wide_norms(model):
        each: Tensor = vmap(of_sample, chunk_size=many)(inputs)
    return each.sum()


def _squares(pull: Callable[[Tensor], tuple[dict[str, Tensor]]], output: Tensor) -> Tensor:
    """‖∇_θ h_c‖² in double precision, c being where ``output`` is 1."""
    # Each tensor in its own precision, which torch sums pairwise: sum(dtype=double) takes twenty times as long.
    return torch.stack([g.square().sum().double() for g in pull(output)[0].values()]).sum()


@dataclass
class _Call:
    """A layer's inputs (n, …), their version when it was called, and its outputs."""

    layer: Any
    inputs: Tensor
    version: int
    outputs: Tensor


def _by_products(model: nn.Module, inputs: Tensor, more: tuple[Any, ...], directions: Directions) -> Tensor:
    """The same from products of inputs and gradients; ValueError where a weight is not used once in a layer it knows.

    Samples must not depend on each other in eval mode.
    """
    calls: list[_Call] = []

    def record(layer: nn.Module, inputs: tuple[Tensor], outputs: Tensor) -> Tensor:
        calls.append(_Call(layer, inputs[0].detach(), inputs[0]._version, outputs))
        return outputs.clone()  # an in-place activation after this layer must not overwrite what was recorded

    layers = (m for m in model.modules() if type(m) in (nn.Linear, nn.Conv2d))
    with listening((layer, record) for layer in layers), torch.enable_grad():
        outputs = model(inputs, *more).flatten(1)
    calls = [call for call in calls if any(p.requires_grad for p in call.layer.parameters())]
    covered = {p for call in calls for p in call.layer.parameters()}
    if any(uses > (p in covered) for p, uses in _uses(outputs).items()) or not all(
        _allows(call, len(inputs)) for call in calls
    ):
        raise ValueError("a weight is used more than once, or by what is no linear layer or convolution")
    total = torch.zeros((), dtype=torch.float64, device=inputs.device)
    if not outputs.requires_grad:
        return total
    norms = [_norm_of(call) for call in calls]
    at = [call.outputs for call in calls]
    for one in directions(outputs):
        deltas = torch.autograd.grad(outputs, at, one.expand_as(outputs), retain_graph=True, allow_unused=True)
        for norm, delta in zip(norms, deltas, strict=True):
            if delta is not None:
                total += norm(wide(delta)).double()
    return total


def _uses(outputs: Tensor) -> Counter[Tensor]:
    """How often each weight enters what ``outputs`` were computed by."""
    found: Counter[Tensor] = Counter()
    seen, ahead = set(), [outputs.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for before, _ in node.next_functions:
            weight = getattr(before, "variable", None)
            if weight is None:
                ahead.append(before)
            else:
                found[weight] += 1
    return found


def _allows(call: _Call, samples: int) -> bool:
    """Whether the layer saw one row a sample, unaltered since, and is one that ``_norm_of`` knows."""
    if len(call.inputs) != samples or call.inputs._version != call.version:
        return False
    if type(call.layer) is nn.Linear:
        return call.inputs.ndim == 2
    plain = call.layer.padding_mode == "zeros" and not isinstance(call.layer.padding, str)
    return plain and call.layer.groups == 1 and call.inputs.ndim == 4


def _norm_of(call: _Call) -> Callable[[Tensor], Tensor]:
    """A function from the gradient at the layer's outputs (n, units, …) to Σ_i ‖∇_θ‖² over the layer's own weights."""
    layer = call.layer
    weight = layer.weight.requires_grad
    bias = layer.bias is not None and layer.bias.requires_grad
    inputs = wide(call.inputs)
    if type(layer) is nn.Linear:
        sizes = inputs.square().sum(1) * weight + bias
        return lambda delta: delta.square().sum(1) @ sizes
    patches = unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # (n, patch, places)
    fewer = patches.shape[2] < patches.shape[1]
    if fewer:
        patches = patches.mT @ patches

    def of_convolution(delta: Tensor) -> Tensor:
        delta = delta.flatten(2)
        total = delta.sum(2).square().sum() * bias
        if not weight:
            return total
        if fewer:
            return total + ((delta.mT @ delta) * patches).sum()
        return total + (delta @ patches.mT).square().sum()

    return of_convolution
