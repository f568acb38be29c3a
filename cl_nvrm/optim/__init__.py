"""Optimizers without Avalanche; a file with a function ``optimizer`` is listed by name."""

from cl_nvrm.optim.nvrm import NVRM
from cl_nvrm.optim.nvrm_adam import NVRMAdam
from cl_nvrm.optim.nvrm_sgd import NVRMSGD
from cl_nvrm.optim.psgd import PSGD

__all__ = ["NVRM", "NVRMSGD", "PSGD", "NVRMAdam"]
