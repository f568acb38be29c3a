"""The learning rate stays as it is."""

from collections.abc import Callable


def schedule() -> Callable[[float], float]:
    """Return the factor 1."""
    return lambda _: 1.0
