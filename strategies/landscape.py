"""Look on: how far the weights move from the first task's minimum, and how flat its loss is there."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl_nvrm.plugins.landscape import LandscapePlugin


def plugin(*, b: float = 0.03, draws: int = 5, samples: int = 2000, seed: int) -> "LandscapePlugin":
    """Record distance, loss and its rise under noise of standard deviation ``b``; training is not touched."""
    from cl_nvrm.plugins.landscape import LandscapePlugin

    return LandscapePlugin(b, draws=draws, samples=samples, seed=seed)
