"""Optimizers and learning-rate schedules without Avalanche: a file with a function ``optimizer`` or ``schedule`` each.

A schedule maps the share of a task's epochs that is over, in [0, 1), to a factor on the learning rate.
"""

from cl_nvrm.optim.nvrm import NVRM
from cl_nvrm.optim.nvrm_adam import NVRMAdam
from cl_nvrm.optim.nvrm_sgd import NVRMSGD
from cl_nvrm.optim.psgd import PSGD

__all__ = ["NVRM", "NVRMSGD", "PSGD", "NVRMAdam"]
