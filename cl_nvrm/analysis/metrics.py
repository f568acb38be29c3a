"""Metrics of one run, from its matrix ``accuracy[t][k]``: the accuracy on task k after training on task t.

All are in [0, 1] or differences of such. Where a metric is not defined, its value is None, with the reason.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cl_nvrm.spec import RunResult
from cl_nvrm.spec.curves import CORRECTED, MEMORISED, TEST, TRAINING, VALIDATION

Matrix = Sequence[Sequence[float]]
LATE = 10


@dataclass(frozen=True)
class Metric:
    """A value, or None and why there is none."""

    value: float | None
    reason: str | None = None


def base_task(accuracy: Matrix) -> list[float]:
    """Return the accuracy on the first task after each task (Xie et al. 2021, figure 5).

    >>> base_task([[1.0, 0.0], [0.5, 1.0]])
    [1.0, 0.5]
    """
    return [row[0] for row in accuracy]


def mean_accuracy(accuracy: Matrix) -> list[float]:
    """Return the mean accuracy over the tasks learned so far, after each task (Xie et al. 2021, figure 5).

    >>> mean_accuracy([[1.0, 0.0], [0.5, 1.0]])
    [1.0, 0.75]
    """
    return [sum(row[: t + 1]) / (t + 1) for t, row in enumerate(accuracy)]


def final_base_task(result: RunResult) -> float:
    """Return the accuracy on the first task at the end."""
    return _several(result)[-1][0]


def final_accuracy(result: RunResult) -> float:
    """Return ACC, the mean accuracy over all tasks at the end (Lopez-Paz and Ranzato, NeurIPS 2017)."""
    return _mean(result.accuracy[-1])


def learning_accuracy(result: RunResult) -> float:
    """Return the mean accuracy on each task just after it was learned: plasticity (Riemer et al., ICLR 2019)."""
    return _mean([row[t] for t, row in enumerate(_several(result))])


def kept_accuracy(result: RunResult) -> float:
    """Return the mean accuracy at the end over all tasks but the last: what is kept, stability."""
    return _mean(_several(result)[-1][:-1])


def backward_transfer(result: RunResult) -> float:
    """Return BWT, the mean change of each old task since it was learned; below 0 is forgetting (Lopez-Paz 2017)."""
    rows = _several(result)
    return _mean([rows[-1][k] - rows[k][k] for k in range(len(rows) - 1)])


def forward_transfer(result: RunResult) -> float:
    """Return FWT, the mean accuracy on each task just before it is learned, above that of the untrained network.

    Lopez-Paz and Ranzato 2017; the untrained network is the run's own initialisation. Defined where tasks share their
    outputs: an output layer of the task's own, or outputs of its own classes, are untrained before it.
    """
    rows = _several(result)
    told = result.provenance
    if told.get("heads", 1) != 1 or str(told.get("scenario", "")).startswith("class-incremental"):
        raise _Undefined("the outputs that a task has for itself are untrained before it")
    if not result.initial:
        raise _Undefined("the untrained network was not evaluated")
    return _mean([rows[k - 1][k] - result.initial[k] for k in range(1, len(rows))])


def forgetting(result: RunResult) -> float:
    """Return the mean drop of each old task from its best to the end (Chaudhry et al., ECCV 2018)."""
    rows = _several(result)
    return _mean([max(row[k] for row in rows[k:-1]) - rows[-1][k] for k in range(len(rows) - 1)])


def min_accuracy(result: RunResult) -> float:
    """Return min-ACC, the mean over old tasks of their worst accuracy while later ones were learned.

    De Lange et al., ICLR 2023. As fine as ``--eval-every`` is; the ends of tasks count, too.
    """
    rows = _several(result)
    if not result.trace:
        raise _Undefined("not evaluated while training; give --eval-every")
    seen = [(t, row) for t, _, row in result.trace] + list(enumerate(rows))
    return _mean([min(row[k] for t, row in seen if t > k) for k in range(len(rows) - 1)])


def worst_case_accuracy(result: RunResult) -> float:
    """Return WC-ACC, what can be relied on at any moment: min-ACC with the last task's accuracy, one share a task.

    De Lange et al., ICLR 2023.
    """
    rows = _several(result)
    return min_accuracy(result) * (1 - 1 / len(rows)) + rows[-1][-1] / len(rows)


def best_accuracy(result: RunResult) -> float:
    """Return the best test accuracy of any epoch: what early stopping could reach at most, chosen on test images."""
    return max(_curve(result, TEST))


def validated_accuracy(result: RunResult) -> float:
    """Return the test accuracy of the epoch with the best validation accuracy, the last one of equals."""
    validation = _curve(result, VALIDATION)
    best = max(range(len(validation)), key=lambda epoch: (validation[epoch], epoch))
    return _curve(result, TEST)[best]


def late_accuracy(result: RunResult) -> float:
    """Return the mean test accuracy over the last ten epochs."""
    return _mean(_curve(result, TEST)[-LATE:])


def training_accuracy(result: RunResult) -> float:
    """Return the final accuracy on the training samples, against the labels they were given."""
    return _curve(result, TRAINING)[-1]


def generalisation_gap(result: RunResult) -> float:
    """Return final training minus final test accuracy (Xie et al. 2021, experiment 2)."""
    return training_accuracy(result) - _curve(result, TEST)[-1]


def memorised(result: RunResult) -> float:
    """Return the share of flipped training samples that are predicted as their wrong label says, at the end."""
    return _curve(result, MEMORISED)[-1]


def corrected(result: RunResult) -> float:
    """Return the share of flipped training samples that are predicted as their true class, at the end."""
    return _curve(result, CORRECTED)[-1]


METRICS: dict[str, Callable[[RunResult], float]] = {
    "base task": final_base_task,
    "ACC": final_accuracy,
    "learning accuracy": learning_accuracy,
    "kept accuracy": kept_accuracy,
    "BWT": backward_transfer,
    "FWT": forward_transfer,
    "forgetting": forgetting,
    "min-ACC": min_accuracy,
    "WC-ACC": worst_case_accuracy,
    "best accuracy": best_accuracy,
    "validated accuracy": validated_accuracy,
    "late accuracy": late_accuracy,
    TRAINING: training_accuracy,
    "generalisation gap": generalisation_gap,
    MEMORISED: memorised,
    CORRECTED: corrected,
}

# The worst that each can be: what a run that diverged counts as, where it is compared with others.
WORST: dict[str, float] = dict.fromkeys(METRICS, 0.0) | {
    "BWT": -1.0,
    "FWT": -1.0,
    "forgetting": 1.0,
    "generalisation gap": 1.0,
    MEMORISED: 1.0,
}


def metric(name: str, result: RunResult) -> Metric:
    """Return one of ``METRICS`` of a run."""
    if result.status != "done":
        return Metric(None, f"the run {result.status}")
    try:
        return Metric(METRICS[name](result))
    except _Undefined as problem:
        return Metric(None, str(problem))


def summary(result: RunResult) -> dict[str, Metric]:
    """Return all metrics of a run, by name."""
    return {name: metric(name, result) for name in METRICS}


class _Undefined(ValueError):
    pass


def _curve(result: RunResult, name: str) -> Sequence[float]:
    if not result.curves:
        raise _Undefined("nothing was recorded after every epoch")
    if name not in result.curves:
        raise _Undefined("no samples were put aside" if name == VALIDATION else "no label was flipped")
    return result.curves[name]


def _several(result: RunResult) -> Matrix:
    if len(result.accuracy) < 2:
        raise _Undefined("there is only one task")
    return result.accuracy


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
