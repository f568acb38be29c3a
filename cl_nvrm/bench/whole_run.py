"""A whole Permuted MNIST run with all evaluations, against stock Avalanche."""

import os
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from cl_nvrm import data
from cl_nvrm.bench.timing import Row, Setting, alternate, compare
from cl_nvrm.bench.work import Work, images, work
from cl_nvrm.training.evaluate import accuracy_on


def measure(setting: Setting) -> list[Row]:
    """Compare task by task: training on it, then evaluating all tasks."""
    tasks, subset = setting.pick(5, 2), setting.pick(0, 3_000)
    ours = {name: work(setting, name, tasks=tasks, subset=subset) for name in ("naive", "ewc+nvrm")}
    size = str(ours["naive"].strategy.train_mb_size)
    with TemporaryDirectory() as folder, ExitStack() as stack:
        _write_idx(Path(folder) / "MNIST" / "raw", images(setting), subset)
        cases: dict[str, Callable[[], object]] = {name: _counted(_ours(each)) for name, each in ours.items()}
        kinds = ("default",) if setting.quick else ("default", "lean")
        for kind in kinds:
            cases[kind] = stack.enter_context(_stock(folder, str(tasks), size, setting.device, kind))
        samples = alternate(cases, tasks, setting, warm=0)
    what = f"ours, {tasks} tasks, evaluated"
    rows = [compare("whole run", f"stock Avalanche / {what}", samples, "default", "naive", least=4.5)]
    if "lean" in kinds:
        rows.append(compare("whole run", f"stock Avalanche, silent, fused Adam / {what}", samples, "lean", "naive"))
    return [*rows, compare("whole run", "ewc+nvrm / naive, Fisher and evaluations too", samples, "ewc+nvrm", "naive")]


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


@contextmanager
def _stock(*arguments: str) -> Iterator[Callable[[], float]]:
    """A process that does one task at each call, with the defaults of its libraries rather than this package's."""
    environment = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    words = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("stock.py")), *arguments]
    process = Popen(words, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True, env=environment)

    def answer() -> str:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of stock Avalanche ended with code {process.wait()}")
        return line

    def case() -> float:
        assert process.stdin is not None
        process.stdin.write("next\n")
        process.stdin.flush()
        return float(answer())

    with process:
        answer()
        yield case
        process.kill()


def _write_idx(folder: Path, found: data.Images, subset: int) -> None:
    """Put the images (0: all) where torchvision looks for MNIST."""
    folder.mkdir(parents=True)
    count = subset or len(found.train_y)
    for name, x, y in (("train", found.train_x[:count], found.train_y[:count]), ("t10k", found.test_x, found.test_y)):
        # Any pixels do: what they are does not change the work.
        pixels = ((x - x.amin()) / (x.amax() - x.amin()) * 255).round().to(torch.uint8).view(-1, *x.shape[-2:])
        (folder / f"{name}-images-idx3-ubyte").write_bytes(_idx(pixels))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(_idx(y.to(torch.uint8)))


def _idx(values: Tensor) -> bytes:
    return (
        struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.contiguous().numpy().tobytes()
    )
