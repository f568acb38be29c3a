"""run_one: one spec in, one result out."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from cl_nvrm import data
from cl_nvrm.benchmark import Benchmark
from cl_nvrm.errors import Diverged
from cl_nvrm.spec import RunResult, RunSpec, Status
from cl_nvrm.training import weights
from cl_nvrm.training.build import build_benchmark, build_plugins, build_strategy, canonical, parts, schedule_of
from cl_nvrm.training.checkpoint import Checkpoint
from cl_nvrm.training.device import device_name
from cl_nvrm.training.evaluate import accuracy_on
from cl_nvrm.training.loop import Strategy
from cl_nvrm.training.provenance import peak_bytes, provenance
from cl_nvrm.training.record import Curves, LossRecord, Trace
from cl_nvrm.training.weights import fingerprint


@dataclass
class History:
    """What was measured while training; in a stack, each number is a list with one a trial."""

    status: Status = "done"
    error: str | None = None
    accuracy: list[list[Any]] = field(default_factory=list)
    initial: list[Any] = field(default_factory=list)
    trace: list[tuple[int, int, list[Any]]] = field(default_factory=list)
    losses: list[list[Any]] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)
    diagnostics: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    gradient_passes: int = 0
    train_seconds: float = 0.0
    eval_seconds: float = 0.0


OnTask = Callable[[History, float], None]


@dataclass
class Training:
    """A strategy before its first task, with what it is trained on and what is watched meanwhile."""

    strategy: Strategy
    benchmark: Benchmark
    plugins: dict[str, Any]
    record: LossRecord
    trace: Trace
    curves: Curves

    def checkpoint(self, path: Path | None) -> Checkpoint:
        """Return where the state of this training is kept."""
        parts = list(self.plugins.values())  # the other two start anew with each task
        return Checkpoint(path, self.strategy, parts, keep_optimizer=not self.benchmark.recipe.fresh_optimizer)


def run_one(
    spec: RunSpec,
    *,
    data_dir: Path | None = None,
    device: str = "cpu",
    threads: int | None = None,
    on_task: OnTask = lambda *_: None,
    checkpoint: Path | None = None,
    keep_weights: Path | None = None,
) -> RunResult:
    """Train through all tasks, evaluating every task after each; a diverged run comes back with what it had.

    ``on_task`` hears, after each task, what was measured so far and the share of the run that is done. With a file
    ``checkpoint``, the state after each task is kept there, and a run that finds one goes on from it, to the same bits.
    The final weights are written to the file ``keep_weights``, if one is given.
    The result is of the canonical spec. Its bits depend on that and the device; ``threads`` (None: torch's present
    number) change only its speed. Errors of plug-ins come out as they are.
    """
    spec = canonical(spec)
    if threads is not None:
        torch.set_num_threads(threads)
    benchmark, images = build_benchmark(spec, data_dir, device)

    def build() -> Training:
        plugins = build_plugins(spec)
        record, trace, curves = LossRecord(), Trace(spec.eval_every, benchmark.test), Curves(benchmark.watched)
        others = [record, trace, curves, schedule_of(spec)]
        strategy = build_strategy(spec, benchmark, [*plugins.values(), *others], device)
        return Training(strategy, benchmark, plugins, record, trace, curves)

    training, history = train_tasks(build, checkpoint, on_task)
    if keep_weights is not None:
        with suppress(OSError, SafetensorError):  # a full disk costs the weights, not the run
            weights.save(keep_weights, training.strategy.model, spec.id)
    about = circumstances(spec, benchmark, images, device)
    return result_of(spec, history, training.strategy.model, benchmark, about)


def train_tasks(build: Callable[[], Training], path: Path | None, on_task: OnTask) -> tuple[Training, History]:
    """Train on one task after the other, from the last checkpoint if there is one; return what comes of it."""
    training = build()
    checkpoint = training.checkpoint(path)
    try:
        kept = checkpoint.load()
    except RuntimeError:  # a plug-in that has something a new one cannot be given: from the start, then
        kept, training = None, build()
        checkpoint = training.checkpoint(path)
    strategy, benchmark = training.strategy, training.benchmark
    history = History(**kept) if kept else History()
    strategy.gradient_passes = history.gradient_passes
    training.curves.values = {name: list(values) for name, values in history.curves.items()}

    def evaluate() -> list[Any]:
        start = time.perf_counter()
        row = [accuracy_on(strategy.model, test) for test in benchmark.test]
        history.eval_seconds += time.perf_counter() - start
        return row

    history.initial = history.initial or evaluate()
    tasks = len(benchmark.train)
    for experience in list(benchmark.streams().train_stream)[len(history.accuracy) :]:
        start = time.perf_counter()
        try:
            strategy.train(experience, reset_optimizer_state=benchmark.recipe.fresh_optimizer)
        except Diverged as problem:
            history.status, history.error = "diverged", f"task {len(history.accuracy) + 1}: {problem}"
            break
        finally:
            watching = training.curves.take_seconds()
            history.train_seconds += time.perf_counter() - start - watching
            history.eval_seconds += watching
            history.curves = {name: list(values) for name, values in training.curves.values.items()}
            history.gradient_passes = strategy.gradient_passes
        history.accuracy.append(evaluate())
        history.trace += training.trace.completed(strategy.clock.train_exp_iterations, history.accuracy[-1])
        history.losses.append(list(training.record.epochs))
        for name, plugin in training.plugins.items():
            if getattr(plugin, "diagnostics", None):
                history.diagnostics.setdefault(name, []).append(dict(plugin.diagnostics))
        if len(history.accuracy) < tasks:
            checkpoint.save(asdict(history))
        on_task(history, len(history.accuracy) / tasks)
    return training, history


def result_of(
    spec: RunSpec, history: History, model: nn.Module, benchmark: Benchmark, circumstances: dict[str, Any]
) -> RunResult:
    """Make the result of a run from what was measured, its final model, and its circumstances."""
    return RunResult(
        spec=spec,
        status=history.status,
        accuracy=tuple(map(tuple, history.accuracy)),
        initial=tuple(history.initial),
        trace=tuple((task, iteration, tuple(row)) for task, iteration, row in history.trace),
        losses=tuple(map(tuple, history.losses)),
        curves={name: tuple(values) for name, values in history.curves.items()},
        diagnostics={**benchmark.diagnostics, **history.diagnostics},
        provenance={
            **provenance(),
            "weights_sha256": fingerprint(model),
            "gradient_passes": history.gradient_passes,
            "peak_bytes": peak_bytes(),
            **circumstances,
        },
        train_seconds=round(history.train_seconds, 3),
        eval_seconds=round(history.eval_seconds, 3),
        error=history.error,
    )


def circumstances(spec: RunSpec, benchmark: Benchmark, images: data.Images | None, device: str) -> dict[str, Any]:
    """Return what is worth recording of a run's circumstances."""
    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "scenario": benchmark.scenario,
        "heads": benchmark.heads,
        "chance": benchmark.chance,
        "train_samples": [len(part) for part in benchmark.train],
        **({"data_notes": list(images.notes)} if images and images.notes else {}),
        "seeds": dict(parts(spec).seeds),
        **benchmark.details,
    }
