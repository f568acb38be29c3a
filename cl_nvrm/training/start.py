"""The start of a run on a few samples, made while planning, so that what a plug-in refuses is known before.

A plug-in knows only in training whether benchmark, network and the other plug-ins suit it: which curves are watched,
which layers there are, what else joins the loss.
"""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from avalanche.core import SupervisedPlugin

from cl_nvrm.benchmark import Benchmark
from cl_nvrm.errors import UserError
from cl_nvrm.spec import RunSpec
from cl_nvrm.training.build import build_plugins, build_strategy, rearranged
from cl_nvrm.training.record import Curves

SAMPLES = 8  # nothing is computed of them


def try_start(spec: RunSpec, benchmark: Benchmark) -> None:
    """Start a run on the first samples of each task, up to its first forward pass; UserError if a plug-in refuses.

    Any other failure is left to the run itself, which keeps its traceback.
    """
    few = replace(
        benchmark,
        train=[task.first(SAMPLES) for task in benchmark.train],
        test=[task.first(SAMPLES) for task in benchmark.test],
    )
    try:
        few = rearranged(spec, few)
        with torch.random.fork_rng(devices=[]), suppress(_Enough):
            plugins = [*build_plugins(spec).values(), Curves(few.watched)]
            strategy = build_strategy(spec, few, [*plugins, _Stop()], "cpu")
            strategy.train(next(iter(few.streams().train_stream)))
    except UserError:
        raise
    except Exception:
        return


class _Enough(BaseException):
    """The first forward pass would come next."""


class _Stop(SupervisedPlugin):
    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        raise _Enough
