"""ER-ACE: new samples compete with the classes of their batch only, those from memory with all (Caccia et al. 2022)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl_nvrm.plugins.er_ace import ERACEPlugin


def plugin(*, memory: int = 200, batch: int = 0, seed: int) -> "ERACEPlugin":
    """Keep ``memory`` samples, and add the loss of ``batch`` of them (0: as many as the batch has)."""
    from cl_nvrm.plugins.er_ace import ERACEPlugin

    return ERACEPlugin(memory, batch=batch, seed=seed)
