"""Synaptic intelligence: importances from the training path (Zenke, Poole and Ganguli 2017).

The default c has the best mean accuracy on Permuted MNIST with 10,000 held-out training images, out of 3, 10, 30, 100
and 300 (two seeds). The published 0.1 is for 20 epochs a task: Ω grows with the path, which one epoch keeps short.
"""

from typing import TYPE_CHECKING, Annotated, Literal

if TYPE_CHECKING:
    from cl_nvrm.plugins.si import SIPlugin

SEARCH = {"c": (0.1, 1e5)}


def plugin(
    *, c: float = 30.0, xi: float = 0.1, clamp: Annotated[Literal["task", "sum", "none"], "later"] = "task"
) -> "SIPlugin":
    """Penalise c Σ Ω (θ - θ*)²."""
    from cl_nvrm.plugins.si import SIPlugin

    return SIPlugin(c, xi=xi, clamp=clamp)
