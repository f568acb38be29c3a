"""Perturbed SGD: fresh weight noise after each step that is never removed (Xie et al. 2021, algorithm 2).

Noise piles up over some 1/(ηh) steps, η the learning rate and h the curvature, so the same variability spreads the
weights 1/(ηh)² times as far as under ``nvrm``, in variance: hence the smaller default.
"""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from cl_nvrm.plugins.psgd import PSGDPlugin

SEARCH = {"variability": (1e-5, 1e-2)}


def plugin(
    *,
    variability: float = 0.0001,
    noise: Literal["gaussian", "laplace", "uniform"] = "gaussian",
    scale: Literal["raw", "matched"] = "raw",
    relative: bool = False,
    seed: int,
) -> "PSGDPlugin":
    """Add noise of scale ``variability`` to the weights after each step."""
    from cl_nvrm.noise import law
    from cl_nvrm.plugins.psgd import PSGDPlugin

    return PSGDPlugin(variability, law(noise, scale), relative=relative, seed=seed)
