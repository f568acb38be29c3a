"""Image data sets, each held once as tensors; ``load`` finds them by name."""

from cl_nvrm.data.images import Images
from cl_nvrm.data.load import load

__all__ = ["Images", "load"]
