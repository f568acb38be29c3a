"""Sharpness-aware minimisation: two passes a step, the second where the loss is worse (Foret et al. 2021)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl_nvrm.plugins.sam import SAMPlugin

SEARCH = {"rho": (0.005, 0.5)}


def plugin(*, rho: float = 0.05) -> "SAMPlugin":
    """Take the gradient ``rho`` up the slope."""
    from cl_nvrm.plugins.sam import SAMPlugin

    return SAMPlugin(rho)
