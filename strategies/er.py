"""Experience replay with a reservoir: samples of all that was shown join each batch (Chaudhry et al. 2019)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl_nvrm.plugins.er import ERPlugin


def plugin(*, memory: int = 200, batch: int = 0, balanced: bool = False, seed: int) -> "ERPlugin":
    """Keep ``memory`` samples (``balanced``: of all classes alike), and have ``batch`` (0: as many) join each batch."""
    from cl_nvrm.plugins.er import ERPlugin

    return ERPlugin(memory, batch=batch, balanced=balanced, seed=seed)
