"""Whole commands in processes of their own: start-up, worker processes, memory."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from tempfile import TemporaryDirectory

from cl_nvrm.bench.timing import Row, Setting, alternate, compare
from cl_nvrm.bench.work import images

FIRST_STEP = """
import os, sys
from cl_nvrm.run import main
from cl_nvrm.training.loop import Strategy

Strategy._after_update = lambda *_, **__: os._exit(0)
sys.exit(f"no step, exit code {main(sys.argv[1:])}")
"""
PEAK = """
import resource, sys
from pathlib import Path
from cl_nvrm.bench.timing import Setting
from cl_nvrm.bench.work import work
name, folder, tasks = sys.argv[1], sys.argv[2], int(sys.argv[3])
made = work(Setting(data=name, data_dir=Path(folder) if folder else None), "naive", tasks=tasks)
assert len(made.experiences) == len(made.benchmark.test) == tasks
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def measure(setting: Setting) -> list[Row]:
    """Measure start-up, worker processes and memory."""
    return [*_startup(setting), *_memory(setting), *_workers(setting)]


def _python(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True).stdout


def _startup(setting: Setting) -> list[Row]:
    """Commands a user waits for, beside the one import that none of those which train can do without."""
    toy = ("--benchmark", "toy")

    def here(*words: str) -> None:
        with TemporaryDirectory() as folder:
            _python("-W", "ignore", *words, "--out", folder)

    with TemporaryDirectory() as stored:
        _python("-W", "ignore", "-m", "cl_nvrm.run", *toy, "--trials", "6", "--no-plots", "--out", stored)
        cases: dict[str, Callable[[], object]] = {
            "torch": partial(_python, "-c", "import torch"),
            "python": partial(_python, "-c", "pass"),
            "help": partial(_python, "-m", "cl_nvrm.run", "--help"),
            "optim": partial(_python, "-c", "from cl_nvrm.optim import NVRM"),
            "dry run": partial(here, "-m", "cl_nvrm.run", *toy, "--dry-run"),
            "report": partial(here, "-m", "cl_nvrm.report", stored),
            "first step": partial(here, "-c", FIRST_STEP, *toy, "--strategy", "nvrm"),
            "six runs": partial(here, "-m", "cl_nvrm.run", *toy, "--trials", "6", "--jobs", "2"),
        }
        samples = alternate(cases, setting.pick(5, 1), setting, warm=setting.pick(1, 0))
    return [
        compare("start", "--help / python -c pass", samples, "help", "python"),
        compare("start", "import cl_nvrm.optim / import torch", samples, "optim", "torch", most=1.1),
        compare("start", "--dry-run of toy / import torch", samples, "dry run", "torch", most=1.3),
        compare("start", "report of six runs / import torch", samples, "report", "torch", most=1.3),
        compare("start", "first step of nvrm on toy / import torch", samples, "first step", "torch", most=1.8),
        compare("start", "six toy runs, --jobs 2 / import torch", samples, "six runs", "torch", most=4.0),
    ]


def _memory(setting: Setting) -> list[Row]:
    def peak(tasks: int) -> float:
        folder = str(setting.data_dir or "")
        return float(_python("-W", "ignore", "-c", PEAK, images(setting).name, folder, str(tasks))) / 1024

    cases: dict[str, Callable[[], object]] = {"100": partial(peak, 100), "5": partial(peak, 5)}
    samples = alternate(cases, setting.pick(3, 1), setting, warm=0)
    # 95 more permutations of 784 numbers are 0.6 MB.
    return [compare("memory", "peak, 100 tasks / 5 tasks", samples, "100", "5", unit="MB", most=1.01)]


def _workers(setting: Setting) -> list[Row]:
    if setting.device != "cpu" or setting.quick:  # short runs would measure the processes' imports
        return []
    trials, size = 10, "permuted-mnist:subset=25600"

    def command(jobs: str) -> float:
        with TemporaryDirectory() as folder:
            words = ["--benchmark", size, "--data", images(setting).name, "--trials", str(trials), "--jobs", jobs]
            words += ["--out", folder, "--no-plots", "--quiet"]
            words += ["--data-dir", str(setting.data_dir)] if setting.data_dir else []
            start = time.perf_counter()
            _python("-m", "cl_nvrm.run", *words)
            return time.perf_counter() - start

    counts = [str(count) for count in (1, 2, 4) if count <= (os.cpu_count() or 1)]
    cases: dict[str, Callable[[], object]] = {jobs: partial(command, jobs) for jobs in (*counts, "auto")}
    samples = alternate(cases, 2, setting, warm=0)
    return [
        compare(
            "workers",
            f"{trials} trials one after another / --jobs {jobs}",
            samples,
            "1",
            jobs,
            least=1.4 if jobs == "auto" else None,
        )
        for jobs in cases
        if jobs != "1"
    ]
