"""From scratch: every task starts with a new network, so its own accuracy is what the task's data alone can teach."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl_nvrm.plugins.bounds import ScratchPlugin


def plugin(*, seed: int) -> "ScratchPlugin":
    """Draw new weights before each task but the first."""
    from cl_nvrm.plugins.bounds import ScratchPlugin

    return ScratchPlugin(seed=seed)
