"""A whole Permuted MNIST run with all evaluations, against stock Avalanche."""

import struct
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from cl_nvrm.bench.timing import Row, Setting, alternate, compare
from cl_nvrm.bench.work import Work, images, work
from cl_nvrm.train import accuracy_on


def measure(setting: Setting) -> list[Row]:
    """Compare task by task: training on it, then evaluating all tasks."""
    tasks, subset = setting.pick(5, 2), setting.pick(0, 3_000)
    ours = {name: work(setting, name, tasks=tasks, subset=subset) for name in ("naive", "ewc+nvrm")}
    with TemporaryDirectory() as folder:
        stock = _stock(setting, Path(folder), tasks, subset)
        cases: dict[str, Callable[[], object]] = {name: _counted(_ours(each)) for name, each in ours.items()}
        cases["stock"] = _counted(stock)
        samples = alternate(cases, tasks, setting, warm=0)
    what = f"stock Avalanche / ours, {tasks} tasks"
    return [
        compare("whole run", f"{what}, all evaluations", samples, "stock", "naive", least=4.5),
        compare("whole run", "ewc+nvrm / naive, Fisher and evaluations included", samples, "ewc+nvrm", "naive"),
    ]


def _counted(task: Callable[[int], None]) -> Callable[[], float]:
    """Return a case that does one task after the other."""
    done = iter(range(1_000_000))

    def case() -> float:
        start = time.perf_counter()
        task(next(done))
        return time.perf_counter() - start

    return case


def _ours(each: Work) -> Callable[[int], None]:
    def task(number: int) -> None:
        each.train(number)
        for test in each.benchmark.test:
            accuracy_on(each.strategy.model, test)

    return task


def _stock(setting: Setting, folder: Path, tasks: int, subset: int) -> Callable[[int], None]:
    """Avalanche's own PermutedMNIST and Naive as its tutorials use them, with a fused optimizer and no logger."""
    from avalanche.benchmarks.classic import PermutedMNIST
    from avalanche.evaluation.metrics import accuracy_metrics
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import Naive

    found = images(setting)
    count = subset or len(found.train_y)
    _write_idx(folder / "MNIST" / "raw", found, count)
    benchmark: Any = PermutedMNIST(tasks, seed=0, dataset_root=folder)
    like = work(setting, "naive", tasks=1, subset=subset)
    model = like.benchmark.model().to(setting.device)
    strategy = Naive(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3, fused=True),
        train_mb_size=like.strategy.train_mb_size,
        train_epochs=1,
        eval_mb_size=like.strategy.train_mb_size,
        device=torch.device(setting.device),
        evaluator=EvaluationPlugin(accuracy_metrics(experience=True), loggers=[]),
    )

    def task(number: int) -> None:
        strategy.train(benchmark.train_stream[number], reset_optimizer_state=True)
        strategy.eval(benchmark.test_stream)

    return task


def _write_idx(folder: Path, found: Any, count: int) -> None:
    """Put the images where torchvision looks for MNIST."""
    folder.mkdir(parents=True)
    for name, x, y in (("train", found.train_x, found.train_y), ("t10k", found.test_x, found.test_y)):
        x, y = (x[:count], y[:count]) if name == "train" else (x, y)
        # Any pixels do: how they are scaled costs the same.
        pixels = ((x - x.amin()) / (x.amax() - x.amin()) * 255).round().to(torch.uint8).view(-1, *x.shape[-2:])
        (folder / f"{name}-images-idx3-ubyte").write_bytes(_idx(pixels))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(_idx(y.to(torch.uint8)))


def _idx(values: Tensor) -> bytes:
    return (
        struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.contiguous().numpy().tobytes()
    )
