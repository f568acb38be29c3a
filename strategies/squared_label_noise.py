"""Label-noise SGD in the setting of its theory: the squared loss, fresh noise on its targets (Blanc et al. 2020)."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from cl_nvrm.plugins.label_noise_sgd import LabelNoisePlugin

SEARCH = {"sigma": (0.05, 2.0)}


def plugin(
    *, sigma: float = 0.5, law: Literal["gaussian", "rademacher"] = "gaussian", diagnose: int = 256, seed: int
) -> "LabelNoisePlugin":
    """Train on the squared loss with noise of scale ``sigma`` on the targets; ``diagnose`` as in label-noise."""
    from cl_nvrm.plugins.label_noise_sgd import LabelNoisePlugin

    return LabelNoisePlugin("squared", sigma=sigma, law=law, diagnose=diagnose, seed=seed)
