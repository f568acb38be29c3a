"""Toy: Gaussian clusters whose place moves from task to task; trains in a second, for tests and first steps."""

from typing import TYPE_CHECKING

from cl_nvrm.spec import derived_seed

if TYPE_CHECKING:
    from cl_nvrm.benchmark import Benchmark


def benchmark(
    *,
    tasks: int = 3,
    classes: int = 4,
    inputs: int = 20,
    samples: int = 512,
    holdout: int = 0,
    width: int = 32,
    heads: bool = False,
    seed: int,
) -> "Benchmark":
    """Draw ``samples`` training and as many test points a task, in equal classes; ``heads``: a head for each task.

    ``holdout`` takes that many training points of each task away and tests on these instead.
    """
    import torch

    from cl_nvrm.benchmark import Benchmark, Recipe, TaskAware, TaskData
    from cl_nvrm.models.mlp import MLP

    if min(tasks, classes, inputs, width) < 1 or samples < classes:
        raise ValueError("tasks, classes, inputs and width must be at least 1 and samples at least classes")
    if tasks * samples * inputs > 10**8:
        raise ValueError(f"{tasks} tasks of {samples} points of {inputs} numbers do not fit into memory")
    if not 0 <= holdout < samples:
        raise ValueError(f"holdout must lie within the {samples} training points, got {holdout}")

    def points(task: int, split: str) -> TaskData:
        centres = torch.Generator().manual_seed(derived_seed(seed, "centres", task))
        drawn = "train" if holdout else split
        spread = torch.Generator().manual_seed(derived_seed(seed, "points", task, drawn))
        middle = torch.randn(classes, inputs, generator=centres)
        labels = torch.arange(samples) % classes
        x = middle[labels] + 0.7 * torch.randn(samples, inputs, generator=spread)
        part = (
            slice(samples - holdout) if split == "train" else slice(samples - holdout, None) if holdout else slice(None)
        )
        return TaskData(x[part], labels[part], task=task if heads else 0)

    def model() -> torch.nn.Module:
        network = MLP(inputs, classes, width=width, heads=tasks if heads else 1)
        return TaskAware(network) if heads else network

    return Benchmark(
        scenario=f"{'task' if heads else 'domain'}-incremental, moving Gaussian clusters",
        train=[points(task, "train") for task in range(tasks)],
        test=[points(task, "test") for task in range(tasks)],
        model=model,
        chance=1 / classes,
        heads=tasks if heads else 1,
        recipe=Recipe(batch_size=32, epochs=3, lr=3e-3, fresh_optimizer=heads),
    )
