"""Dark experience replay: samples from memory keep their logits (Buzzega et al. 2020); one head: with outputs=all.

The default alpha is that of the authors' code for Permuted and for Rotated MNIST with a memory of 200
(utils/best_args.py of aimagelab/mammoth, tag neurips2020). Where classes are added to one output layer, it needs
``outputs=all``, as in the paper: no logit was kept for what came later.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl_nvrm.plugins.der import DERPlugin

SEARCH = {"alpha": (0.01, 10.0)}


def plugin(*, memory: int = 200, alpha: float = 1.0, batch: int = 0, seed: int) -> "DERPlugin":
    """Add ``alpha`` · the mean square of what the logits of ``batch`` samples (0: as many as the batch has) moved."""
    from cl_nvrm.plugins.der import DERPlugin

    return DERPlugin(memory, alpha=alpha, batch=batch, seed=seed)
