"""Neural variable risk minimisation: fresh weight noise in every forward and backward pass (Xie et al. 2021).

``nvrm:noise=uniform`` is stochastic SmoothOut (Wen et al. 2018, arXiv 1805.07898).
"""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from cl_nvrm.plugins.nvrm import NVRMPlugin

SEARCH = {"variability": (0.001, 0.1)}


def plugin(
    *,
    variability: float = 0.03,
    noise: Literal["gaussian", "laplace", "uniform"] = "gaussian",
    scale: Literal["raw", "matched"] = "raw",
    relative: bool = False,
    penalty_at: Literal["noisy", "clean"] = "noisy",
    batch_norm: Literal["noisy", "recalibrate"] = "noisy",
    seed: int,
) -> "NVRMPlugin":
    """Perturb the weights with noise of scale ``variability``."""
    from cl_nvrm.noise import law
    from cl_nvrm.plugins.nvrm import NVRMPlugin

    return NVRMPlugin(
        variability, law(noise, scale), relative=relative, penalty_at=penalty_at, batch_norm=batch_norm, seed=seed
    )
