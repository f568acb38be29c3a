"""Estimate: how long runs will take, from runs like them in the store or from a few steps of their own."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cl_nvrm.spec import RunResult, RunSpec, grammar
from cl_nvrm.training import provenance


def seconds(
    specs: Sequence[RunSpec], stored: Sequence[RunResult], data_dir: Path | None, device: str, threads: int | None
) -> dict[str, float]:
    """Return about how many seconds each run takes in one process, by id.

    Runs that differ in their values, learning rate and seed only take the same time. Where the store holds finished
    ones, it is their median, else it is measured; NaN if its first steps fail.
    """
    known: dict[RunSpec, list[float]] = {}
    for result in stored:
        if result.status == "done":
            known.setdefault(_like(result.spec), []).append(result.train_seconds + result.eval_seconds)
    about = {like: statistics.median(times) for like, times in known.items()}
    for spec in specs:
        if _like(spec) not in about:
            from cl_nvrm.sweep.steps import measure  # needs Avalanche, which a plan of known runs does not

            try:
                about[_like(spec)] = measure(spec, data_dir, device, threads)
            except Exception:  # a run that cannot be trained will say so itself
                about[_like(spec)] = math.nan
    return {spec.id: about[_like(spec)] for spec in specs}


def duration(seconds: float) -> str:
    """Write about how long something takes; NaN if that is not known."""
    if math.isnan(seconds):
        return "time unknown"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def peak_bytes(specs: Sequence[RunSpec], stored: Sequence[RunResult]) -> int | None:
    """Return about how much memory a process needs that trains such runs one after the other; None if unknown.

    It is the most that stored runs like them took and, if some had to be measured, that this process took for that.
    """
    wanted = {_like(spec) for spec in specs}
    alike = [result for result in stored if result.status == "done" and _like(result.spec) in wanted]
    peaks = [result.provenance.get("peak_bytes") or 0 for result in alike]
    if wanted - {_like(result.spec) for result in alike}:
        peaks.append(provenance.peak_bytes() or 0)
    return max(peaks, default=0) or None


def _like(spec: RunSpec) -> RunSpec:
    return replace(spec.cell, strategy=grammar.family(spec.strategy), lr=0.0, chosen="")
