"""Metrics of one run, from its matrix ``accuracy[t][k]``: the accuracy on task k after training on task t."""

from collections.abc import Sequence

Matrix = Sequence[Sequence[float]]


def base_task(accuracy: Matrix) -> list[float]:
    """Return the accuracy on the first task after each task (Xie et al. 2021, figure 5)."""
    return [row[0] for row in accuracy]


def mean_accuracy(accuracy: Matrix) -> list[float]:
    """Return the mean accuracy over the tasks learned so far, after each task (Xie et al. 2021, figure 5)."""
    return [sum(row[: t + 1]) / (t + 1) for t, row in enumerate(accuracy)]
