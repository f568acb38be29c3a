"""Sums over samples of what each one's own gradient is: what importances of EWC and MAS share.

There are three ways to them, and the fastest that is right for a network is taken. In a linear layer no sample's
gradient need be formed: with inputs a and output gradients δ, ∂W = δ aᵀ, so the sum of an even function of it that
splits into factors, as |·| and (·)² do, is one matrix product. ``vmap`` forms those of many samples at once. And the
definition itself, one backward pass a sample, is what both are held against on the first samples.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from cl_nvrm.analysis.modules import as_written, listening, wide, wide_norms
from cl_nvrm.analysis.ways import Ways
from cl_nvrm.errors import UserError

Weights = dict[str, Tensor]
Arguments = tuple[Any, ...]  # of the model: inputs (n, …), and a task label where it takes one


@dataclass(frozen=True)
class Objective:
    """What is differentiated for each sample, and what is summed of its gradients.

    ``targets(outputs, labels)`` lists what the outputs (n, …) are held against: targets (n, …), the weight (n,) of each
    sample (None: 1), and the derivative of each sample's score by its outputs. ``score`` is that of a single sample,
    from outputs (1, …) and target (1, …). ``size`` is what is summed, (·)² or |·|.
    """

    score: Callable[[Tensor, Tensor], Tensor]
    targets: Callable[[Tensor, Tensor], Iterable[tuple[Tensor, Tensor | None, Tensor]]]
    size: Callable[[Tensor], Tensor]


def _random_direction(outputs: Tensor, v: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    return [(v, v.reshape(len(v), -1).abs().sum(1), v)]


# Score and weight differ from sample to sample, and the gradient is 0 for no network, however well it has learned.
PROBE = Objective(lambda outputs, v: (outputs * v).sum(), _random_direction, torch.square)


def trainable(model: nn.Module) -> Weights:
    """Return the parameters that importances are of, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def per_trial(
    models: list[nn.Module], batches: Iterable[list[Tensor]], of_one: Callable[[Any, Any, int], Weights]
) -> Weights:
    """Return ``of_one(model, batches, k)`` of each trial k of a stack, stacked."""
    drawn = list(batches)
    each = [of_one(model, [[part[k] for part in b] for b in drawn], k) for k, model in enumerate(models)]
    return {name: torch.stack([f[name] for f in each]) for name in each[0]}


def arguments_and_labels(batches: Iterable[list[Tensor]], *, multi_task: bool) -> Iterator[tuple[Arguments, Tensor]]:
    """Yield the model's arguments and the class labels of each batch; UserError for a batch of several tasks.

    ``batches`` yields inputs, class labels and, for a ``multi_task`` model, task labels.
    """
    for x, y, *rest in batches:
        if not multi_task:
            yield (x,), y
            continue
        labels = rest[-1].unique().tolist()
        if len(labels) != 1:
            raise UserError("importances are taken one task at a time; this batch mixes task labels")
        yield (x, labels[0]), y


def mean_over_samples(
    model: nn.Module,
    batches: Iterable[list[Tensor]],
    objective: Callable[[int, Tensor], Objective],
    *,
    multi_task: bool,
) -> Weights:
    """Return the mean over samples of an objective's sizes, of each trainable parameter, in its shape, by name.

    ``objective`` is made anew for each batch from the count of samples before it and its labels. The model is in eval
    mode, computed as it is written, compiled or not, and left as it was. Which way its gradients are taken is found on
    the first batch, and again where that way ends.
    """
    weights = trainable(model)
    total = {name: torch.zeros_like(wide(p)) for name, p in weights.items()}
    ways: Ways[Way] = Ways(model, [*[of_linear_layers] * only_linear(model), of_any_layers, one_by_one])

    def go(way: Way, arguments: Arguments, y: Tensor, before: int) -> None:
        way(model, arguments, y, objective(before, y), total)

    count = 0
    with as_written(model):
        for arguments, y in arguments_and_labels(batches, multi_task=multi_task):
            x, *task = arguments
            ways.take(x, partial(_probed, model, task), partial(go, arguments=arguments, y=y, before=count))
            count += len(y)
    return {name: (f / max(count, 1)).to(weights[name].dtype) for name, f in total.items()}


Way = Callable[[nn.Module, Arguments, Tensor, Objective, Weights], None]


def only_linear(model: nn.Module) -> bool:
    """Whether all that is trained are the weights of linear layers, each in one place."""
    linear = {id(p) for m in model.modules() if type(m) is nn.Linear for p in m.parameters()}
    trained = [p for m in model.modules() for p in m.parameters(recurse=False) if p.requires_grad]
    shared = len(trained) != len({id(p) for p in trained})
    return not shared and all(id(p) in linear for p in trained)


def of_linear_layers(
    model: nn.Module, arguments: Arguments, labels: Tensor, objective: Objective, total: Weights
) -> None:
    """Add a batch's sizes to ``total``, from inputs and output gradients of linear layers; ValueError if it cannot."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}  # by the prefix of a layer's parameters: what went in and out

    def record(prefix: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            seen.setdefault(prefix, []).append((inputs[0].detach(), output))
            return output.clone()  # an in-place activation after this layer must not overwrite what was recorded

        return hook

    # the model may itself be a linear layer
    linear = [(f"{name}." if name else "", m) for name, m in model.named_modules() if type(m) is nn.Linear]
    with listening((m, record(prefix)) for prefix, m in linear), torch.enable_grad():
        outputs: Tensor = model(*arguments)
    used = {prefix: calls[0] for prefix, calls in seen.items() if calls[0][1].requires_grad}
    rows = (len(arguments[0]),)
    if not used or not all(len(calls) == 1 and calls[0][0].shape[:-1] == rows for calls in seen.values()):
        raise ValueError("a layer is used twice, or not on one row a sample, or none was heard")
    at = [output for _, output in used.values()]
    sizes = [torch.zeros_like(wide(output)) for output in at]
    for _, weight, slope in objective.targets(outputs, labels):
        deltas = torch.autograd.grad(outputs, at, slope, retain_graph=True, allow_unused=True)
        for size, delta in zip(sizes, deltas, strict=True):
            if delta is not None:
                own = objective.size(wide(delta))
                size += own if weight is None else weight[:, None] * own
    for (prefix, (inputs, _)), size in zip(used.items(), sizes, strict=True):
        if f"{prefix}weight" in total:
            total[f"{prefix}weight"] += size.T @ objective.size(wide(inputs))
        if f"{prefix}bias" in total:
            total[f"{prefix}bias"] += size.sum(0)


def of_any_layers(model: nn.Module, arguments: Arguments, labels: Tensor, objective: Objective, total: Weights) -> None:
    """Add a batch's sizes to ``total``, of any network that ``vmap`` goes through."""
    x, *task = arguments
    weights = {name: p.detach() for name, p in trainable(model).items()}

    def score(weights: Weights, x: Tensor, target: Tensor) -> Tensor:
        return objective.score(functional_call(model, weights, (x[None], *task)), target[None])

    with torch.no_grad():
        outputs = model(*arguments)
    for target, weight, _ in objective.targets(outputs, labels):
        with wide_norms(model):
            gradients = vmap(grad(score), in_dims=(None, 0, 0), chunk_size=64)(weights, x, target)
        for name, g in gradients.items():
            own = objective.size(g)
            total[name] += own.sum(0) if weight is None else torch.einsum("n,n...->...", weight, own)


def one_by_one(model: nn.Module, arguments: Arguments, labels: Tensor, objective: Objective, total: Weights) -> None:
    """Add a batch's sizes to ``total``, by one backward pass a sample and target: the definition, of any network."""
    x, *task = arguments
    weights = trainable(model)
    for one, label in zip(x.split(1), labels.split(1), strict=True):
        with torch.enable_grad():
            outputs = model(one, *task)
            scores = [(objective.score(outputs, to), weight) for to, weight, _ in objective.targets(outputs, label)]
        for score, weight in scores:
            for name, g in gradients(score, weights).items():
                own = objective.size(g)
                total[name] += own if weight is None else weight * own


def gradients(score: Tensor, weights: Weights) -> Weights:
    """Return the dense gradients of a number by those of the weights that it depends on; its graph is kept."""
    if not score.requires_grad:
        return {}
    found = torch.autograd.grad(score, list(weights.values()), retain_graph=True, allow_unused=True)
    return {name: g.to_dense() for name, g in zip(weights, found, strict=True) if g is not None}


def _probed(model: nn.Module, task: list[Any], way: Way, few: Tensor) -> list[Tensor]:
    """The sizes of gradients of a few samples, for random directions at the outputs."""
    with torch.no_grad():
        outputs = model(few, *task)
    v = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0)).to(outputs)
    total = {name: torch.zeros_like(p) for name, p in trainable(model).items()}
    way(model, (few, *task), v, PROBE, total)
    return list(total.values())
