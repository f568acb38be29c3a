"""What a benchmark returns: a sequence of tasks, with model and recipe."""

from typing import TYPE_CHECKING, Any

from cl_nvrm.benchmark.definition import Benchmark, Recipe, Watched
from cl_nvrm.benchmark.tasks import (
    Augment,
    Batch,
    Merged,
    Seed,
    ShuffledBatches,
    TaskData,
    chosen_rows,
    sampled_batches,
    task_data,
)

if TYPE_CHECKING:
    from cl_nvrm.benchmark.task_aware import TaskAware

__all__ = [
    "Augment",
    "Batch",
    "Benchmark",
    "Merged",
    "Recipe",
    "Seed",
    "ShuffledBatches",
    "TaskAware",
    "TaskData",
    "Watched",
    "chosen_rows",
    "sampled_batches",
    "task_data",
]


def __getattr__(name: str) -> Any:
    """Import what needs Avalanche when it is asked for."""
    if name == "TaskAware":
        from cl_nvrm.benchmark.task_aware import TaskAware

        return TaskAware
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
