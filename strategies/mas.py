"""Memory aware synapses: importances without labels, from how far each weight moves the outputs (Aljundi et al. 2018).

The default λ has the best mean accuracy on 2,000 held-out training images of permuted digits (2,000 others to train
on, width 100, three epochs a task, batch 32, three seeds), out of 0.001, 0.01, 0.1, 1 and 10.
"""

from typing import TYPE_CHECKING, Annotated, Literal

if TYPE_CHECKING:
    from cl_nvrm.plugins.mas import MASPlugin

SEARCH = {"lambda": (1e-4, 10.0)}


def plugin(
    *,
    lambda_: float = 0.01,
    samples: int = 2000,
    of: Annotated[Literal["samples", "batches"], "later"] = "samples",
    outputs: Annotated[Literal["sum", "mean"], "later"] = "sum",
    seed: int,
) -> "MASPlugin":
    """Penalise λ Σ Ω (θ - θ*)²."""
    from cl_nvrm.plugins.mas import MASPlugin

    return MASPlugin(lambda_, samples=samples, of=of, outputs=outputs, seed=seed)
