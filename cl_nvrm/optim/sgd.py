"""Stochastic gradient descent with optional momentum, as torch has it, in its fused form."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.optim import SGD

ELEMENTWISE = True  # each weight is stepped by itself, so that trials can be stacked


def optimizer(
    params: Iterable[Any], *, lr: float, weight_decay: float, momentum: float = 0.0, nesterov: bool = False
) -> "SGD":
    """Build it for a run; ``lr`` and ``weight_decay`` come from the run."""
    from cl_nvrm.optim.plain import SGD  # torch, which reading a spec does not need

    return SGD(params, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, fused=True)
