"""Image data sets, each held once as tensors; ``load`` finds them by name."""

from cl_nvrm.data.images import Images
from cl_nvrm.data.sources import load

__all__ = ["Images", "load"]
