"""Steps: how long a run takes by a few of its own, where the store holds none like it."""

import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cl_nvrm.benchmark import Benchmark, TaskData
from cl_nvrm.spec import RunSpec
from cl_nvrm.training.build import build_benchmark, build_plugins, build_strategy
from cl_nvrm.training.evaluate import accuracy_on
from cl_nvrm.training.loop import Strategy
from cl_nvrm.training.start import Enough, Stop

FEW, MORE = 8, 24  # batches of the tasks that are timed, each twice
LONG = 0.1  # seconds of an eighth of a batch from which on it has to do, since nobody waits long for a plan


def measure(spec: RunSpec, data_dir: Path | None, device: str, threads: int | None) -> float:
    """Time a run's steps: two short tasks of different length give what a step takes and what a task does besides.

    Nothing is compiled for that, which would take longer than what it is to tell.
    """
    spec = replace(spec, compiled=False)
    if threads is not None:
        torch.set_num_threads(threads)
    benchmark, _ = build_benchmark(spec, data_dir, device)
    part = -(-spec.batch_size // 8)
    strategy = _build(spec, benchmark, device, Stop(takes_a_step=True))  # what follows a task may take long, too
    eighth = _train(strategy, _parts(benchmark, part, part))[1]  # the first warms up
    if eighth > LONG:
        test = benchmark.test[0].first(part)
        evaluation = _evaluation(strategy.model, test) * len(benchmark.test[0]) / len(test)
        return _total(spec, benchmark, eighth * spec.batch_size / part, 0.0, evaluation)
    strategy = _build(spec, benchmark, device)
    _train(strategy, _parts(benchmark, part))  # penalties then have something to hold on to
    parts = _parts(benchmark, *2 * (FEW * spec.batch_size, MORE * spec.batch_size), after=1)
    times = _train(strategy, parts)
    shorter, longer = min(times[::2]), min(times[1::2])  # what is done for the first time, or beside others, is longer
    few, more = (_steps(task, spec) for task in parts.train[:2])
    a_step = max(0.0, (longer - shorter) / (more - few) if more > few else longer / more)
    besides = max(0.0, shorter - a_step * few)
    return _total(spec, benchmark, a_step, besides, _evaluation(strategy.model, benchmark.test[0]))


def _build(spec: RunSpec, benchmark: Benchmark, device: str, *others: Any) -> Strategy:
    strategy = build_strategy(spec, benchmark, [*build_plugins(spec).values(), *others], device)
    strategy.train_epochs, strategy.iterations = 1, 0
    return strategy


def _parts(benchmark: Benchmark, *samples: int, after: int = 0) -> Benchmark:
    """Tasks with so many training samples each, from the benchmark's task ``after`` on."""
    chosen = [(after + k) % len(benchmark.train) for k in range(len(samples))]
    train = [benchmark.train[k].first(n) for k, n in zip(chosen, samples, strict=True)]
    return replace(benchmark, train=train, test=[benchmark.test[k] for k in chosen])


def _train(strategy: Strategy, parts: Benchmark) -> list[float]:
    """Seconds of one epoch on each task."""
    times = []
    for experience in parts.streams().train_stream:
        start = time.perf_counter()
        with suppress(Enough):
            strategy.train(experience, reset_optimizer_state=parts.recipe.fresh_optimizer)
        times.append(time.perf_counter() - start)
    return times


def _total(spec: RunSpec, benchmark: Benchmark, a_step: float, besides: float, evaluation: float) -> float:
    count = len(benchmark.train)
    each = [spec.iterations or _steps(task, spec) * spec.epochs for task in benchmark.train]
    steps, traced = sum(each), sum(n * (t + 1) for t, n in enumerate(each))
    evaluations = (count + 1) * count + (traced / spec.eval_every if spec.eval_every else 0)
    return steps * a_step + count * besides + evaluations * evaluation


def _evaluation(model: torch.nn.Module, test: TaskData) -> float:
    start = time.perf_counter()
    accuracy_on(model, test)
    return time.perf_counter() - start


def _steps(task: TaskData, spec: RunSpec) -> int:
    return -(-len(task) // spec.batch_size)
