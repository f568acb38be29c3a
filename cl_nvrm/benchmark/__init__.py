"""What a benchmark returns: a sequence of tasks, with model and recipe."""

from cl_nvrm.benchmark.definition import Benchmark, Recipe, TaskAware, Watched
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
