"""RanDumb: fixed random features and a streaming linear head, the trivial baseline (Prabhu et al. 2024)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl_nvrm.plugins.randumb import RanDumbPlugin


def plugin(*, features: int = 2000, gamma: float = 1.0, ridge: float = 1e-3, seed: int) -> "RanDumbPlugin":
    """Classify by the nearest class mean in ``features`` random Fourier features; ``gamma`` is the kernel's."""
    from cl_nvrm.plugins.randumb import RanDumbPlugin

    return RanDumbPlugin(features, gamma=gamma, ridge=ridge, seed=seed)
