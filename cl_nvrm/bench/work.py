"""The work that is timed: runs of permuted-mnist, step by step."""

import time
from dataclasses import dataclass
from typing import Any

from avalanche.core import SupervisedPlugin

from cl_nvrm import data
from cl_nvrm.bench.timing import Setting
from cl_nvrm.benchmark import Benchmark
from cl_nvrm.spec import RunSpec, grammar
from cl_nvrm.training.build import build_benchmark, build_plugins, build_strategy
from cl_nvrm.training.loop import Strategy
from cl_nvrm.training.record import LossRecord


class EpochTimer(SupervisedPlugin):
    """Keeps the seconds of the last epoch: its steps, without what happens once a task."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.setting = setting
        self.seconds = 0.0

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Start."""
        self.setting.wait()
        self._start = time.perf_counter()

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Stop."""
        self.setting.wait()
        self.seconds = time.perf_counter() - self._start


@dataclass
class Work:
    """A strategy on its benchmark, to be trained task by task."""

    strategy: Strategy
    benchmark: Benchmark
    experiences: list[Any]
    timer: EpochTimer

    def steps(self, task: int) -> float:
        """Train on a task; return the seconds of its steps."""
        self.train(task)
        return self.timer.seconds

    def train(self, task: int) -> None:
        """Train on a task, as a run does."""
        self.strategy.train(self.experiences[task], reset_optimizer_state=self.benchmark.recipe.fresh_optimizer)


def images(setting: Setting) -> data.Images:
    """Return the data set that is measured on."""
    return data.load(setting.data, folder=setting.data_dir)


def spec(setting: Setting, strategy: str, *, tasks: int, subset: int = 0, seed: int = 0) -> RunSpec:
    """Return the spec of a permuted-mnist run with the benchmark's own recipe."""
    return of_benchmark(setting, f"permuted-mnist:tasks={tasks}", strategy, subset=subset, seed=seed)


def of_benchmark(setting: Setting, text: str, strategy: str, *, subset: int, seed: int = 0) -> RunSpec:
    """Return the spec of a run of one epoch, otherwise by the benchmark's recipe, on at most ``subset`` images."""
    found = images(setting)
    benchmark = grammar.parse("benchmarks", f"{text},subset={min(subset, len(found.train_y))}")
    recipe = benchmark.make(found, seed=0).recipe
    return RunSpec(
        strategy=grammar.canonical(grammar.parse_sum(strategy)),
        benchmark=str(benchmark),
        dataset=found.name,
        dataset_sha256=found.sha256,
        seed=seed,
        epochs=1,
        batch_size=recipe.batch_size,
        optimizer=str(grammar.parse("optimizers", recipe.optimizer)),
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
    )


def work(setting: Setting, strategy: str, *, tasks: int, subset: int = 0) -> Work:
    """Build a strategy and its tasks, ready to be trained."""
    return prepared(setting, spec(setting, strategy, tasks=tasks, subset=subset))


def prepared(setting: Setting, planned: RunSpec) -> Work:
    """Build what a spec says, ready to be trained."""
    benchmark, _ = build_benchmark(planned, setting.data_dir, setting.device)
    timer = EpochTimer(setting)
    plugins = [*build_plugins(planned).values(), LossRecord(), timer]
    made = build_strategy(planned, benchmark, plugins, setting.device)
    return Work(made, benchmark, list(benchmark.streams().train_stream), timer)
