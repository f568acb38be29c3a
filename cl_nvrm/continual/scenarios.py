"""Scenarios: the same tasks, learned task-, domain- or class-incrementally (van de Ven and Tolias 2019).

Which task a sample is of is known (task), need not be known (domain), or is part of the question (class):

    the second of two tasks, {2, 3}      labels   outputs of the network
    task                                 0, 1     a head of 2 for each task; the sample's own is asked
    domain                               0, 1     one head of 2
    class                                2, 3     one head of 4, of which 2 are active in the first task

van de Ven and Tolias, "Three scenarios for continual learning", arXiv 1904.07734; van de Ven, Tuytelaars and Tolias,
"Three types of incremental learning", Nature Machine Intelligence 4, 2022.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import nn

from cl_nvrm.benchmark import Benchmark, Recipe, TaskData

Scenario = Literal["task", "domain", "class"]
Outputs = Literal["seen", "all"]


def in_scenario(
    scenario: Scenario,
    train: Sequence[TaskData],
    test: Sequence[TaskData],
    network: Callable[[int, int], nn.Module],
    *,
    classes: int,
    about: str,
    outputs: Outputs = "seen",
    recipe: Recipe,
    details: dict[str, Any] | None = None,
) -> Benchmark:
    """Return tasks as the benchmark of a scenario.

    Labels of ``train`` and ``test`` are those within the task, in [0, ``classes``). ``network`` makes one of so many
    outputs, so many times; the second number is 1 but for task-incremental learning. ``outputs="all"`` has the
    softmax of class-incremental learning run over all classes from the start, as if their number were known.
    ``about`` says what the tasks are.
    """
    count = len(train)
    several = scenario == "task"
    total = classes * count if scenario == "class" else classes
    active = {"seen": "a head that grows", "all": "all outputs active"}[outputs] if scenario == "class" else ""
    first_class = range(0, classes * count, classes) if scenario == "class" else [0] * count

    def placed(tasks: Sequence[TaskData]) -> list[TaskData]:
        return [
            part.labelled(part.labels + first if first else part.labels, task=number if several else 0)
            for number, (part, first) in enumerate(zip(tasks, first_class, strict=True))
        ]

    def model() -> nn.Module:
        made = network(total, count if several else 1)
        if several:
            from cl_nvrm.benchmark import TaskAware  # needs Avalanche, as a network that grows does

            return TaskAware(made)
        if scenario == "class" and outputs == "seen":
            from cl_nvrm.continual.growing import Growing

            return Growing(made)
        return made

    return Benchmark(
        scenario=", ".join(filter(None, (f"{scenario}-incremental", about, active))),
        train=placed(train),
        test=placed(test),
        model=model,
        chance=1 / total,
        heads=count if several else 1,
        recipe=recipe,
        details=details or {},
    )
