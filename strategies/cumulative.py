"""Cumulative training: every task trains on the data of all tasks so far, which nothing is forgotten by."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from cl_nvrm.plugins.bounds import MoreDataPlugin


def plugin(*, steps: Literal["same", "epochs"] = "same") -> "MoreDataPlugin":
    """Draw as many samples an epoch as the task alone has, or all of them."""
    from cl_nvrm.plugins.bounds import MoreDataPlugin

    return MoreDataPlugin("so far", steps=steps)
