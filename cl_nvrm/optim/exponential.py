"""The learning rate falls by the same factor every epoch: ``final=0.046`` is 0.95 an epoch over 60 epochs."""

from collections.abc import Callable


def schedule(*, final: float = 0.046) -> Callable[[float], float]:
    """Return ``final`` to the power of the share: over E epochs, a factor of ``final``^(1/E) from one to the next."""
    if not 0 < final <= 1:
        raise ValueError(f"final must lie within 0 (exclusive) and 1, got {final:g}")
    return lambda share: final**share
