"""L2 anchor as an Avalanche plug-in: every weight counts the same, which is what importances have to beat.

Kirkpatrick et al., PNAS 114(13), 2017, figure 2, have it as the control for EWC.
"""

from typing import Any

from cl_nvrm.plugins.quadratic import QuadraticPenalty, trainable_weights


class L2Plugin(QuadraticPenalty):
    """Adds ``strength`` · Σ (θ - θ*)², with θ* the weights at the end of the latest task; ``strength`` ≥ 0, no ½.

    The pull does not grow with the number of tasks. Only weights that were trainable in that task are pulled.
    """

    name = "l2-anchor"

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Move the anchor to the task's final weights."""
        weights = trainable_weights(strategy.model)
        self.importance, self.anchor, self.scatter = {}, {}, 0.0
        self.remember({name: w.new_ones(w.shape) for name, w in weights.items()}, weights)
