"""Stochastic gradient Langevin dynamics: noise of variance 2 · lr · temperature after each step (Welling and Teh 2011).

The loss is a mean over N samples, so the Bayesian posterior is at temperature 1/N; the default is colder.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl_nvrm.plugins.psgd import SGLDPlugin

SEARCH = {"temperature": (1e-8, 1e-3)}


def plugin(*, temperature: float = 1e-6, seed: int) -> "SGLDPlugin":
    """Add noise to the weights after each step, as the learning rate of that step and ``temperature`` say."""
    from cl_nvrm.plugins.psgd import SGLDPlugin

    return SGLDPlugin(temperature, seed=seed)
