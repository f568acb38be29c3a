"""The implicit regulariser of label-noise SGD: how far a step on one sample moves a network's outputs, on average.

Blanc, Gupta, Valiant and Valiant, COLT 2020 (arXiv 1904.09080): on the squared loss, label noise of variance σ² under
batches of one and the step size η acts as (η σ²/4) of it added to ½(h - y)², in time ~ 1/(η²σ²) steps.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from cl_nvrm.errors import UserError

NUMBERS = 1 << 24  # entries of per-sample gradients held at once


@torch.no_grad()
def implicit_regulariser(model: nn.Module, inputs: Tensor, *more: Any) -> float:
    """Return (1/n) Σ_i Σ_c ‖∇_θ h_c(x_i, θ)‖² over inputs (n, …), outputs c and the distinct trainable weights θ.

    h is what the model returns, in eval mode: logits, not probabilities; a single output is the paper's case. ``more``
    (a task label) goes to the model as it is. The model is left as it was, without gradients.
    """
    if not len(inputs):
        raise UserError("the implicit regulariser is a mean over samples, and there are none")
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if not weights:
        return 0.0

    def of_sample(x: Tensor) -> Tensor:
        linearised: tuple[Any, ...] = vjp(lambda w: functional_call(model, w, (x[None], *more)).flatten(), weights)
        outputs, pull = linearised
        # one output at a time: gradients of all of them together would not fit for large networks
        each = [_squares(pull, one) for one in torch.eye(len(outputs), device=x.device, dtype=outputs.dtype)]
        return torch.stack(each).sum()

    many = max(1, min(len(inputs), NUMBERS // sum(w.numel() for w in weights.values())))
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        each: Tensor = vmap(of_sample, chunk_size=many)(inputs)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return float(each.mean())


def _squares(pull: Callable[[Tensor], tuple[dict[str, Tensor]]], output: Tensor) -> Tensor:
    """‖∇_θ h_c‖² in double precision, c being where ``output`` is 1."""
    return torch.stack([g.square().sum(dtype=torch.float64) for g in pull(output)[0].values()]).sum()
