"""The learning rate stays for a while, then falls on a straight line to 0: ``start=0.4`` is after two fifths."""

from collections.abc import Callable


def schedule(*, start: float = 0.0) -> Callable[[float], float]:
    """Return 1 up to the share ``start``, then (1 - share) / (1 - start)."""
    if not 0 <= start < 1:
        raise ValueError(f"start must lie within 0 and 1 (exclusive), got {start:g}")
    return lambda share: min(1.0, (1 - share) / (1 - start))
