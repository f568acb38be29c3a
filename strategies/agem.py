"""A-GEM: no step goes against the gradient on a memory of earlier tasks (Chaudhry et al. 2019; Avalanche's)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl_nvrm.plugins.rehearsal import AGEMPlugin


def plugin(*, patterns: int = 200, sample: int = 200, seed: int) -> "AGEMPlugin":
    """Keep ``patterns`` training samples of each task, and draw ``sample`` of them for each step."""
    from cl_nvrm.plugins.rehearsal import AGEMPlugin

    return AGEMPlugin(patterns, sample=sample, seed=seed)
