"""L2 anchor as an Avalanche plug-in: every weight counts the same, which is what importances have to beat.

Kirkpatrick et al., PNAS 114(13), 2017, figure 2, have it as the control for EWC.
"""

from typing import Any

import torch

from cl_nvrm.plugins.quadratic import QuadraticPenalty, trainable_weights


class L2Plugin(QuadraticPenalty):
    """Adds ``strength`` · Σ (θ - θ*)², with θ* the weights at the end of the latest task; ``strength`` ≥ 0, no ½.

    The pull does not grow with the number of tasks. Only weights that have been trainable are pulled; those of a layer
    that is frozen and learns again later, too. Diagnostics count what is trainable when the task ends.
    """

    name = "l2-anchor"

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Move the anchor to the task's final weights."""
        weights, trainable = self.learned_weights(strategy.model), trainable_weights(strategy.model)
        ones = {name: torch.ones_like(w) for name, w in weights.items()}
        self.importance, self.anchor, self.scatter = {}, {}, 0.0
        self.remember({name: ones[name] for name in trainable or weights}, weights)
        self.importance, self.anchor = ones, weights
