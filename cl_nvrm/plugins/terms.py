"""The name that ``loss_terms`` had before; plug-ins may import from either."""

from cl_nvrm.plugins.loss_terms import LossTerm

__all__ = ["LossTerm"]
