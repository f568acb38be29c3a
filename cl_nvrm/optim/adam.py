"""Adam, as torch has it, in its fused form."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.optim import Adam

ELEMENTWISE = True  # each weight is stepped by itself, so that trials can be stacked


def optimizer(
    params: Iterable[Any],
    *,
    lr: float,
    weight_decay: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> "Adam":
    """Build it for a run; ``lr`` and ``weight_decay`` come from the run."""
    from cl_nvrm.optim.plain import Adam  # torch, which reading a spec does not need

    return Adam(params, lr=lr, betas=(beta1, beta2), eps=epsilon, weight_decay=weight_decay, fused=True)
