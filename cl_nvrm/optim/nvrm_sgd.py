"""NVRM-SGD: a drop-in for torch.optim.SGD, with the published argument names."""

from collections.abc import Iterable
from typing import Any

from cl_nvrm.optim.nvrm import NVRM
from cl_nvrm.optim.plain import SGD


class NVRMSGD(NVRM):
    """SGD under NVRM (Xie et al. 2021, algorithm 1); ``variability`` is the raw noise scale b.

    ``num_iters``, the authors' number of steps between de-noisings, is accepted and no longer needed: the weights are
    clean at any time. Other keyword arguments go to torch.optim.SGD.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        variability: float = 0.01,
        num_iters: int | None = None,
        *,
        noise: str = "gaussian",
        seed: int = 0,
        **sgd: Any,
    ) -> None:
        super().__init__(SGD(params, lr=lr, **sgd), variability, noise, seed=seed)


ELEMENTWISE = True  # each weight is stepped by itself, so that trials can be stacked


def optimizer(
    params: Iterable[Any],
    *,
    lr: float,
    weight_decay: float,
    momentum: float = 0.0,
    variability: float = 0.03,
    seed: int,
) -> NVRMSGD:
    """Build it for a run; ``lr``, ``weight_decay`` and ``seed`` come from the run."""
    return NVRMSGD(
        params, lr=lr, weight_decay=weight_decay, momentum=momentum, variability=variability, seed=seed, fused=True
    )
