"""Sums over samples of what each one's own gradient is: what importances of EWC and MAS share.

In a linear layer no sample's gradient need be formed: with inputs a and output gradients δ, ∂W = δ aᵀ, so the sum of an
even function of it that splits into factors, as |·| and (·)² do, is one matrix product.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from cl_nvrm.analysis.modules import in_eval_mode, listening
from cl_nvrm.errors import UserError
from cl_nvrm.plugins.loss_terms import compiled

Weights = dict[str, Tensor]
Calls = dict[str, tuple[Tensor, Tensor]]  # by the prefix of a layer's parameters: what went in and what came out


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


def averaged(
    model: nn.Module,
    batches: Iterable[list[Tensor]],
    add: Callable[[tuple[Any, ...], Tensor, int, Weights], int],
    *,
    multi_task: bool,
) -> Weights:
    """Return the mean of what ``add`` adds up, of each trainable parameter, in its shape, by name.

    ``batches`` yields inputs, class labels and, for a ``multi_task`` model, task labels. ``add`` is given the model's
    arguments, class labels, the count so far and the totals, and returns how much the batch counts. The model is in
    eval mode, computed as it is written, compiled or not, and left as it was. UserError for a batch of several tasks.
    """
    total = {name: torch.zeros_like(p) for name, p in trainable(model).items()}
    count = 0
    with _as_written(model):
        for x, y, *rest in batches:
            arguments: tuple[Any, ...] = (x,)
            if multi_task:
                labels = rest[-1].unique().tolist()
                if len(labels) != 1:
                    raise UserError("importances are taken one task at a time; this batch mixes task labels")
                arguments = (x, labels[0])
            count += add(arguments, y, count, total)
    return {name: f / max(count, 1) for name, f in total.items()}


def only_linear(model: nn.Module) -> bool:
    """Whether all that is trained are the weights of linear layers, each in one place."""
    linear = {id(p) for m in model.modules() if type(m) is nn.Linear for p in m.parameters()}
    trained = [p for m in model.modules() for p in m.parameters(recurse=False) if p.requires_grad]
    shared = len(trained) != len({id(p) for p in trained})
    return not shared and all(id(p) in linear for p in trained)


def heard(model: nn.Module, arguments: tuple[Any, ...]) -> tuple[Tensor, Calls | None]:
    """Return the model's output and the linear layers' calls; None for them if layers alone do not tell the whole.

    That is where a layer is used twice, or on sequences, so that its gradient is a sum, to be taken as a whole, or
    where none was heard.
    """
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def record(prefix: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            seen.setdefault(prefix, []).append((inputs[0].detach(), output))
            return output.clone()  # an in-place activation after this layer must not overwrite what was recorded

        return hook

    # the model may itself be a linear layer
    linear = [(f"{name}." if name else "", m) for name, m in model.named_modules() if type(m) is nn.Linear]
    with listening((m, record(prefix)) for prefix, m in linear), torch.enable_grad():
        output: Tensor = model(*arguments)
    used = {prefix: calls[0] for prefix, calls in seen.items() if calls[0][1].requires_grad}
    whole = used and all(len(calls) == 1 and calls[0][0].ndim == 2 for calls in seen.values())
    return output, used if whole else None


def add_layer(total: Weights, prefix: str, inputs: Tensor, at_output: Tensor) -> None:
    """Add Σ_n δ_n a_nᵀ and Σ_n δ_n to a linear layer's weight and bias, as far as they are trained."""
    if f"{prefix}weight" in total:
        total[f"{prefix}weight"] += at_output.T @ inputs
    if f"{prefix}bias" in total:
        total[f"{prefix}bias"] += at_output.sum(0)


@contextmanager
def _as_written(model: nn.Module) -> Iterator[None]:
    eager = torch.compiler.set_stance("force_eager") if compiled(model) else nullcontext()  # type: ignore[attr-defined]
    with in_eval_mode(model), eager:
        yield
