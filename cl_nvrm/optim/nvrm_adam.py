"""NVRM-Adam: a drop-in for torch.optim.Adam, with the published argument names."""

from collections.abc import Iterable
from typing import Any

from cl_nvrm.optim.nvrm import NVRM
from cl_nvrm.optim.plain import Adam


class NVRMAdam(NVRM):
    """Adam under NVRM (Xie et al. 2021); ``variability`` is the raw noise scale b.

    ``num_iters``, the authors' number of steps between de-noisings, is accepted and no longer needed: the weights are
    clean at any time. Other keyword arguments go to torch.optim.Adam.
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
        **adam: Any,
    ) -> None:
        super().__init__(Adam(params, lr=lr, **adam), variability, noise, seed=seed)


ELEMENTWISE = True  # each weight is stepped by itself, so that trials can be stacked


def optimizer(
    params: Iterable[Any], *, lr: float, weight_decay: float, variability: float = 0.03, seed: int
) -> NVRMAdam:
    """Build it for a run; ``lr``, ``weight_decay`` and ``seed`` come from the run."""
    return NVRMAdam(params, lr=lr, weight_decay=weight_decay, variability=variability, seed=seed, fused=True)
