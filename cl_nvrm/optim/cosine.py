"""The learning rate falls along half a cosine, from its full value towards 0 (Loshchilov and Hutter, ICLR 2017)."""

import math
from collections.abc import Callable


def schedule() -> Callable[[float], float]:
    """Return (1 + cos π·share) / 2."""
    return lambda share: (1 + math.cos(math.pi * share)) / 2
