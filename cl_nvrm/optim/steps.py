"""The learning rate drops by a factor at equal distances: ``drops=2`` after one and two thirds (÷10 at 100 of 300)."""

import math
from collections.abc import Callable


def schedule(*, drops: int = 2, factor: float = 0.1) -> Callable[[float], float]:
    """Return ``factor`` to the power of the drops so far."""
    if drops < 0 or not 0 < factor <= 1:
        raise ValueError(f"drops must be at least 0 and factor within 0 (exclusive) and 1, got {drops}, {factor:g}")
    # 100 / 300 · 3 may be a hair below 1
    return lambda share: factor ** math.floor(share * (drops + 1) + 1e-9)
