"""Estimate: how long runs will take, from runs like them in the store or from a few steps of their own."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from cl_nvrm.benchmark import Benchmark, TaskData
from cl_nvrm.spec import RunResult, RunSpec, grammar
from cl_nvrm.training.build import build_benchmark, build_plugins, build_strategy
from cl_nvrm.training.evaluate import accuracy_on
from cl_nvrm.training.loop import Strategy

FEW, MORE = 8, 24  # batches of the two tasks that are timed
LONG = 0.5  # seconds of a first batch from which on it alone has to do, since nobody waits long for a plan


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
            try:
                about[_like(spec)] = measure(spec, data_dir, device, threads)
            except Exception:  # a run that cannot be trained will say so itself
                about[_like(spec)] = math.nan
    return {spec.id: about[_like(spec)] for spec in specs}


def measure(spec: RunSpec, data_dir: Path | None, device: str, threads: int | None) -> float:
    """Time a run's steps: two short tasks of different length give what a step takes and what a task does besides."""
    if threads is not None:
        torch.set_num_threads(threads)
    benchmark, _ = build_benchmark(spec, data_dir, device)
    strategy = build_strategy(spec, benchmark, list(build_plugins(spec).values()), device)
    strategy.train_epochs = 1
    warm = _train(strategy, benchmark, _parts(benchmark, spec.batch_size, 1))[
        0
    ]  # and penalties have what they hold on to
    a_step, besides, test = warm, 0.0, _shorten(benchmark.test[0], spec.batch_size)
    if warm < LONG:
        parts = _parts(benchmark, spec.batch_size, FEW, MORE, after=1)
        times = _train(strategy, benchmark, parts)
        few, more = (_steps(task, spec) for task, _ in parts)
        a_step = max(0.0, (times[1] - times[0]) / (more - few) if more > few else times[1] / more)
        besides, test = max(0.0, times[0] - a_step * few), benchmark.test[0]
    evaluation = _evaluation(strategy.model, test) * len(benchmark.test[0]) / len(test)
    return _total(spec, benchmark, a_step, besides, evaluation)


def _parts(benchmark: Benchmark, batch: int, *lengths: int, after: int = 0) -> list[tuple[TaskData, TaskData]]:
    """A training part of so many batches and a test set for each length, of the tasks from ``after`` on."""
    count = len(benchmark.train)
    return [
        (_shorten(benchmark.train[k % count], n * batch), benchmark.test[k % count])
        for k, n in enumerate(lengths, start=after)
    ]


def _train(strategy: Strategy, benchmark: Benchmark, parts: list[tuple[TaskData, TaskData]]) -> list[float]:
    """Seconds of one epoch on each part."""
    train, test = zip(*parts, strict=True)
    times = []
    for experience in replace(benchmark, train=list(train), test=list(test)).streams().train_stream:
        start = time.perf_counter()
        strategy.train(experience, reset_optimizer_state=benchmark.recipe.fresh_optimizer)
        times.append(time.perf_counter() - start)
    return times


def _total(spec: RunSpec, benchmark: Benchmark, a_step: float, besides: float, evaluation: float) -> float:
    count = len(benchmark.train)
    steps = sum(_steps(task, spec) * spec.epochs for task in benchmark.train)
    traced = sum(_steps(task, spec) * spec.epochs * (t + 1) for t, task in enumerate(benchmark.train))
    evaluations = (count + 1) * count + (traced / spec.eval_every if spec.eval_every else 0)
    return steps * a_step + count * besides + evaluations * evaluation


def _evaluation(model: torch.nn.Module, test: TaskData) -> float:
    start = time.perf_counter()
    accuracy_on(model, test)
    return time.perf_counter() - start


def _steps(task: TaskData, spec: RunSpec) -> int:
    return -(-len(task) // spec.batch_size)


def _shorten(task: TaskData, samples: int) -> TaskData:
    rows = torch.arange(len(task), device=task.labels.device) if task.rows is None else task.rows
    return TaskData(
        task.images, task.labels[:samples], rows=rows[:samples], permutation=task.permutation, task=task.task
    )


def _like(spec: RunSpec) -> RunSpec:
    return replace(spec.cell, strategy=grammar.family(spec.strategy), lr=0.0, chosen="")
