"""Measured: what a stored run came to, by a name that claims use; more of it than there are metrics."""

import json
import re
from pathlib import Path
from typing import Any

from cl_nvrm.analysis.comparisons import Cell
from cl_nvrm.analysis.metrics import METRICS
from cl_nvrm.analysis.time_to_fit import time_to_fit
from cl_nvrm.report.tables import CURVES
from cl_nvrm.spec import RunResult

EPOCH = "epoch of "
OTHERWISE = "1 - "  # before the name of a share: the error, where it is an accuracy


def measured(store: Path, cell: Cell, name: str) -> dict[int, float]:
    """Return a number of each finished run of a cell, by seed; KeyError or ValueError for a name of nothing it has.

    A metric, where it is defined. ``base task after 1``, ``mean accuracy after 1``: after that task. ``test accuracy at
    10``: a curve, or what a plug-in recorded by epoch, after that epoch, or its largest ``at best``. ``accuracy under
    0.05``: of the test, with noise of that scale on the weights, the mean over draws, as the answers of
    ``cl_nvrm.perturb`` in the store say. ``epoch of 0.999``: the first so well fitted, of the seeds that came to it.
    ``train_seconds``, and whatever else a plug-in or the provenance has. ``1 - ``
    before any of these.
    """
    if name in METRICS:
        return cell.values(name)
    if name.startswith(OTHERWISE):
        return {seed: 1 - value for seed, value in measured(store, cell, name.removeprefix(OTHERWISE)).items()}
    if name.startswith(EPOCH):
        epochs = {result.spec.seed: time_to_fit(result, float(name.removeprefix(EPOCH))).epoch for result in cell.done}
        return {seed: epoch for seed, epoch in epochs.items() if epoch is not None}
    return {result.spec.seed: _number(store, result, name) for result in cell.done}


def _number(store: Path, result: RunResult, name: str) -> float:
    match = re.fullmatch(r"(.+) (after|at|under) (\S+)", name)
    if match is None:
        recorded = {**result.provenance, **_plugged(result), "train_seconds": result.train_seconds}
        return float(recorded[name])
    what, word, place = match.groups()
    if word == "after":
        return CURVES[what](result.accuracy)[int(place) - 1]
    if word == "under":
        return _noisy(store, result, float(place))
    values = result.curves[what] if what in result.curves else _plugged(result)["by_epoch"][what]
    return float(max(values) if place == "best" else values[int(place) - 1])


def _plugged(result: RunResult) -> dict[str, Any]:
    """What plug-ins recorded of the last task."""
    told = [points[-1] for points in result.diagnostics.values() if isinstance(points, list) and points]
    return {key: value for point in told if isinstance(point, dict) for key, value in point.items()}


def _noisy(store: Path, result: RunResult, scale: float) -> float:
    (path,) = (store / "perturbed").glob(f"{result.id}-*.json")
    curve = json.loads(path.read_text(encoding="utf-8"))["curve"]
    (accuracies,) = [draws["accuracies"] for draws in curve if draws["scale"] == scale]
    return float(sum(accuracies) / len(accuracies))
