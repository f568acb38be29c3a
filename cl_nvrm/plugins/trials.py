"""Trials: what a plug-in needs to know to work on one trial and on a stack of them alike.

In a stack, the leading axis of every weight is the trial, and ``strategy.trials`` says how many there are. Elementwise
arithmetic on weights is the same either way; only sums over all weights must stop at the border of a trial.
"""

from typing import Any

from torch import Tensor, nn

PerTrial = float | list[float]  # one number, or one for each trial of a stack


def trials_of(strategy: Any) -> int | None:
    """Return the number of stacked trials; None for an ordinary strategy."""
    trials: int | None = getattr(strategy, "trials", None)
    return trials


def trial_models(model: Any) -> list[nn.Module] | None:
    """Return the networks of a stack's trials, which share its weights; None for an ordinary network."""
    return model.members() if hasattr(model, "members") else None


def rows(tensor: Tensor, trials: int | None) -> Tensor:
    """Return the entries of each trial as one row: (trials, n), or (1, n) outside of a stack."""
    return tensor.reshape(trials or 1, -1)


def plain(numbers: Tensor, trials: int | None) -> PerTrial:
    """Return (trials,) or (1,) numbers as plain values."""
    values: list[float] = numbers.tolist()
    return values if trials else values[0]
