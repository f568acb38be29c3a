"""Adaptive sharpness-aware minimisation: SAM with steps up the slope relative to each weight (Kwon et al. 2021)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl_nvrm.plugins.sam import SAMPlugin

SEARCH = {"rho": (0.05, 5.0)}


def plugin(*, rho: float = 0.5, eta: float = 0.01) -> "SAMPlugin":
    """Take the gradient ``rho`` up the slope, in units of |θ| + ``eta``."""
    from cl_nvrm.plugins.sam import SAMPlugin

    return SAMPlugin(rho, eta=eta)
