"""Label-noise SGD: fresh noise on the labels in every iteration (Blanc et al. 2020; DisturbLabel, Xie et al. 2016).

``label-noise:loss=squared`` is the setting of the theory, whose noise is ``sigma``; ``rate`` is that of the default.
"""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from cl_nvrm.plugins.label_noise_sgd import LabelNoisePlugin

SEARCH = {"rate": (0.01, 0.5)}


def plugin(
    *,
    loss: Literal["squared", "cross-entropy"] = "cross-entropy",
    rate: float = 0.1,
    sigma: float = 0.5,
    law: Literal["gaussian", "rademacher"] = "gaussian",
    diagnose: int = 256,
    seed: int,
) -> "LabelNoisePlugin":
    """Replace labels at ``rate``, or train on the squared loss with noise of scale ``sigma`` on the targets."""
    from cl_nvrm.plugins.label_noise_sgd import LabelNoisePlugin

    return LabelNoisePlugin(loss, rate=rate, sigma=sigma, law=law, diagnose=diagnose, seed=seed)
