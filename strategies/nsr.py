"""Neuron steadiness regularisation: units respond alike to all samples of a class (Mao et al. 2022).

The published λ for the logits of an MLP-4 on MNIST is 7.4865, with plain SGD at lr 0.01; for other depths 0.02 to 0.4.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl_nvrm.plugins.nsr import NSRPlugin

SEARCH = {"lambda": (0.01, 10.0)}


def plugin(*, lambda_: float = 1.0, memory: int = 5, layer: str = "logits", start: int = 0, seed: int) -> "NSRPlugin":
    """Pull the responses of ``layer`` (a module's name, logits, auto) to class means over ``memory`` batches."""
    from cl_nvrm.plugins.nsr import NSRPlugin

    return NSRPlugin(lambda_, memory=memory, layer=layer, start=start, seed=seed)
