"""Toy: Gaussian clusters whose place moves from task to task; trains in a second, for tests and first steps."""

from typing import TYPE_CHECKING, Annotated, Literal

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
    scenario: Annotated[Literal["auto", "task", "domain", "class"], "later"] = "auto",
    outputs: Annotated[Literal["seen", "all"], "later"] = "seen",
    seed: int,
) -> "Benchmark":
    """Draw ``samples`` training and as many test points a task, in equal classes.

    ``scenario`` and ``outputs`` are those of ``continual/scenarios``; ``auto`` is domain, and with ``heads`` task.

    ``holdout`` takes that many training points of each task away and tests on these instead.
    """
    import torch

    from cl_nvrm.benchmark import Recipe, TaskData
    from cl_nvrm.continual.scenarios import in_scenario
    from cl_nvrm.models.mlp import MLP

    if min(tasks, classes, inputs, width) < 1 or samples < classes:
        raise ValueError("tasks, classes, inputs and width must be at least 1 and samples at least classes")
    if heads and scenario not in ("auto", "task"):
        raise ValueError(f"heads=true is task-incremental learning, not scenario={scenario}")
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
        return TaskData(x[part], labels[part])

    return in_scenario(
        scenario if scenario != "auto" else "task" if heads else "domain",
        [points(task, "train") for task in range(tasks)],
        [points(task, "test") for task in range(tasks)],
        lambda classes, heads: MLP(inputs, classes, width=width, heads=heads),
        classes=classes,
        about="moving Gaussian clusters",
        outputs=outputs,
        recipe=Recipe(batch_size=32, epochs=3, lr=3e-3, fresh_optimizer=heads or scenario == "task"),
    )
