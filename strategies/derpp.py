"""DER++: samples from memory keep their logits, and others from memory their labels (Buzzega et al. 2020).

The default alpha and beta are those of the authors' code for Permuted MNIST with a memory of 200, which has a beta of
0.5 for Rotated MNIST (utils/best_args.py of aimagelab/mammoth, tag neurips2020).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl_nvrm.plugins.der import DERPlugin

SEARCH = {"alpha": (0.01, 10.0), "beta": (0.01, 10.0)}


def plugin(*, memory: int = 200, alpha: float = 1.0, beta: float = 1.0, batch: int = 0, seed: int) -> "DERPlugin":
    """Add to ``der`` ``beta`` · the loss of a second draw of ``batch`` samples (0: as many as the batch has)."""
    from cl_nvrm.plugins.der import DERPlugin

    return DERPlugin(memory, alpha=alpha, beta=beta, batch=batch, seed=seed)
