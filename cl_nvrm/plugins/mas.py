"""Memory aware synapses as an Avalanche plug-in.

Aljundi et al., "Memory aware synapses: learning what (not) to forget", ECCV 2018 (arXiv 1711.09601): a weight matters
as much as it moves the network's outputs h, Ω_i = (1/N) Σ_n |∂‖h(x_n)‖² / ∂θ_i| (eq. 3, in the version for outputs of
several dimensions), and the next tasks pay λ Σ_i Ω_i (θ_i - θ*_i)² (eq. 4). No labels are needed.

Avalanche's own takes the absolute value of a mini-batch's mean gradient, in which samples cancel, and takes it in
training mode, which draws dropout masks and moves running statistics.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from avalanche.models.utils import is_multi_task_module
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from cl_nvrm.benchmark import sampled_batches
from cl_nvrm.errors import UserError
from cl_nvrm.noise import Seed
from cl_nvrm.plugins.quadratic import QuadraticPenalty, Weights, trainable_weights


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
        with torch.random.fork_rng(devices=[]):
            importance = output_sensitivity(strategy.model, batches, multi_task=is_multi_task_module(strategy.model))
        weights = trainable_weights(strategy.model)
        self.anchor |= weights
        self.remember(importance, weights)


def output_sensitivity(model: Any, batches: Iterable[list[Tensor]], *, multi_task: bool = False) -> Weights:
    """Return the mean of |∂‖h(x)‖² / ∂θ| over samples, of each trainable parameter, in its shape, by name.

    ``batches`` yields inputs (n, …), class labels, which are not used, and, for a ``multi_task`` model, task labels.
    The absolute value is taken sample by sample. The model is evaluated in eval mode and left as it was; no gradient is
    left on its parameters. Of a stack of trials, the sensitivities are those of the trials one by one, stacked.
    """
    if hasattr(model, "members"):
        drawn = list(batches)
        each = [
            output_sensitivity(alone, [[part[k] for part in b] for b in drawn], multi_task=multi_task)
            for k, alone in enumerate(model.members())
        ]
        return {name: torch.stack([f[name] for f in each]) for name in each[0]}
    trainable: Weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p) for name, p in trainable.items()}
    modes = {module: module.training for module in model.modules()}
    model.eval()
    count = 0
    try:
        for x, _, *rest in batches:
            task: tuple[int, ...] = ()
            if multi_task:
                labels = rest[-1].unique().tolist()
                if len(labels) != 1:
                    raise UserError("importances are taken one task at a time; this batch mixes task labels")
                task = (labels[0],)
            sums = _of_linear_layers(model, trainable, x, task)
            for name, part in (_of_any_layers(model, trainable, x, task) if sums is None else sums).items():
                total[name] += part
            count += len(x)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return {name: omega / max(count, 1) for name, omega in total.items()}


def _of_linear_layers(model: nn.Module, trainable: Weights, x: Tensor, task: tuple[int, ...]) -> Weights | None:
    """The sums over samples where no sample's gradient need be formed; None if some parameter is not of that kind.

    With inputs a and output gradients δ, ∂W = δ aᵀ, so Σ_n |∂W_n| = |δ|ᵀ |a|: one matrix product a layer.
    """
    linear = [(f"{name}." if name else "", m) for name, m in model.named_modules() if type(m) is nn.Linear]
    covered = [f"{prefix}{key}" for prefix, m in linear for key, _ in m.named_parameters()]
    shared = len({id(p) for p in model.parameters()}) != sum(1 for _ in model.named_parameters(remove_duplicate=False))
    if shared or not set(trainable) <= set(covered):
        return None
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def record(prefix: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            seen.setdefault(prefix, []).append((inputs[0].detach(), output))
            return output.clone()  # an in-place activation after this layer must not overwrite what was recorded

        return hook

    hooks = [m.register_forward_hook(record(prefix)) for prefix, m in linear]
    try:
        with torch.enable_grad():
            size = model(x, *task).square().sum()
    finally:
        for hook in hooks:
            hook.remove()
    if any(len(calls) > 1 or calls[0][0].ndim != 2 for calls in seen.values()):
        return None  # a layer used twice, or on sequences: its gradient is a sum, to be taken as a whole
    used = {prefix: calls[0] for prefix, calls in seen.items() if calls[0][1].requires_grad}
    deltas = torch.autograd.grad(size, [output for _, output in used.values()], allow_unused=True)
    sums: Weights = {}
    for (prefix, (a, _)), delta in zip(used.items(), deltas, strict=True):
        if delta is not None:
            sums |= {f"{prefix}weight": delta.abs().T @ a.abs(), f"{prefix}bias": delta.abs().sum(0)}
    return {name: part for name, part in sums.items() if name in trainable}


def _of_any_layers(model: nn.Module, trainable: Weights, x: Tensor, task: tuple[int, ...]) -> Weights:
    weights = {name: p.detach() for name, p in trainable.items()}

    def size(weights: Weights, one: Tensor) -> Tensor:
        squares: Tensor = functional_call(model, weights, (one[None], *task)).square()
        return squares.sum()

    per_sample = vmap(grad(size), in_dims=(None, 0), chunk_size=64)(weights, x)
    return {name: g.abs().sum(0) for name, g in per_sample.items()}
