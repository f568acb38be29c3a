"""The l1 norm of all weights, which makes many of them small (Tibshirani 1996); l2 is --weight-decay."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl_nvrm.plugins.l1 import L1Plugin

SEARCH = {"lambda": (1e-6, 1e-2)}


def plugin(*, lambda_: float = 0.0001) -> "L1Plugin":
    """Penalise λ Σ |θ|."""
    from cl_nvrm.plugins.l1 import L1Plugin

    return L1Plugin(lambda_)
