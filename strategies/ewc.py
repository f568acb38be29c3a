"""Elastic weight consolidation with a per-sample Fisher information (Kirkpatrick et al. 2017)."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from cl_nvrm.plugins.ewc import EWCPlugin

SEARCH = {"lambda": (1.0, 1e6)}


def plugin(
    *,
    lambda_: float = 100.0,
    fisher: Literal["exact", "sampled", "empirical", "predicted", "batch"] = "exact",
    samples: int = 2000,
    mode: Literal["separate", "online"] = "separate",
    decay: float = 1.0,
    seed: int,
) -> "EWCPlugin":
    """Penalise (λ/2) Σ F (θ - θ*)²."""
    from cl_nvrm.plugins.ewc import EWCPlugin

    return EWCPlugin(lambda_, fisher=fisher, samples=samples, mode=mode, decay=decay, seed=seed)
