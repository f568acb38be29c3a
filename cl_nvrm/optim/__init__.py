"""Optimizers and learning-rate schedules without Avalanche: a file with a function ``optimizer`` or ``schedule`` each.

A schedule maps the share of a task's epochs that is over, in [0, 1), to a factor on the learning rate.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cl_nvrm.optim.nvrm import NVRM
    from cl_nvrm.optim.nvrm_adam import NVRMAdam
    from cl_nvrm.optim.nvrm_sgd import NVRMSGD
    from cl_nvrm.optim.psgd import PSGD

__all__ = ["NVRM", "NVRMSGD", "PSGD", "NVRMAdam"]
_IN = {"NVRM": "nvrm", "NVRMSGD": "nvrm_sgd", "NVRMAdam": "nvrm_adam", "PSGD": "psgd"}


def __getattr__(name: str) -> Any:
    """Import an optimizer, and with it torch, when it is asked for: reading a spec needs their names alone."""
    if name in _IN:
        return getattr(import_module(f"{__name__}.{_IN[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
