"""Early stopping: a task ends when accuracy on validation samples stops rising, at the weights of its best epoch.

Prechelt, "Early stopping, but when?", 1998. It needs a benchmark that watches validation samples, such as
``random-labels:validation=1000``.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl_nvrm.plugins.early_stopping import EarlyStoppingPlugin


def plugin(*, patience: int = 5, restore: bool = True) -> "EarlyStoppingPlugin":
    """Stop after ``patience`` epochs that were no better than the best before them."""
    from cl_nvrm.plugins.early_stopping import EarlyStoppingPlugin

    return EarlyStoppingPlugin(patience, restore=restore)
