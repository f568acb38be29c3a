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
        with torch.random.fork_rng(devices=[]), suppress(Enough):
            plugins = [*build_plugins(spec).values(), Curves(few.watched)]
            strategy = build_strategy(spec, few, [*plugins, Stop()], "cpu")
            strategy.train(next(iter(few.streams().train_stream)))
    except UserError:
        raise
    except Exception:
        return


class Enough(BaseException):
    """More of the training is not wanted."""


class Stop(SupervisedPlugin):
    """Raises Enough before the first forward pass, or after the first step."""

    def __init__(self, *, takes_a_step: bool = False) -> None:
        super().__init__()
        self.takes_a_step = takes_a_step

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Stop, unless a step is to be taken."""
        if not self.takes_a_step:
            raise Enough

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Stop."""
        raise Enough
