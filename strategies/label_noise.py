"""Label-noise SGD: labels replaced afresh in every iteration (Blanc et al. 2020; DisturbLabel, Xie et al. 2016)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl_nvrm.plugins.label_noise_sgd import LabelNoisePlugin

SEARCH = {"rate": (0.01, 0.5)}


def plugin(*, rate: float = 0.1, diagnose: int = 256, seed: int) -> "LabelNoisePlugin":
    """Replace labels at ``rate``; ``diagnose`` samples of each task are measured when it ends."""
    from cl_nvrm.plugins.label_noise_sgd import LabelNoisePlugin

    return LabelNoisePlugin(rate=rate, diagnose=diagnose, seed=seed)
