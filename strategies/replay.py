"""Experience replay: each batch is joined by one from a memory of earlier tasks (Rolnick et al. 2019; Avalanche's)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl_nvrm.plugins.rehearsal import ReplayPlugin


def plugin(*, memory: int = 200, seed: int) -> "ReplayPlugin":
    """Keep ``memory`` training samples, in equal parts of all tasks."""
    from cl_nvrm.plugins.rehearsal import ReplayPlugin

    return ReplayPlugin(memory, seed=seed)
