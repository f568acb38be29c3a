"""Synaptic intelligence: importances from the training path (Zenke, Poole and Ganguli 2017)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl_nvrm.plugins.si import SIPlugin


def plugin(*, c: float = 0.1, xi: float = 0.1) -> "SIPlugin":
    """Penalise c Σ Ω (θ - θ*)²."""
    from cl_nvrm.plugins.si import SIPlugin

    return SIPlugin(c, xi=xi)
