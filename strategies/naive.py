"""Plain training, one task after the other: the baseline that forgets."""


def plugin() -> None:
    """Add nothing to the training loop."""
