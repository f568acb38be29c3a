"""Split MNIST: {0,1}, {2,3}, … one after the other, each with its own output layer unless told otherwise."""

from typing import TYPE_CHECKING, Annotated, Literal

from cl_nvrm.spec import derived_seed

if TYPE_CHECKING:
    from torch import Tensor

    from cl_nvrm.benchmark import Benchmark, TaskData
    from cl_nvrm.data import Images


def benchmark(
    mnist: "Images",
    *,
    tasks: int = 5,
    width: int = 1024,
    depth: int = 2,
    subset: int = 0,
    holdout: int = 0,
    fresh_optimizer: bool = True,
    scenario: Annotated[Literal["task", "domain", "class"], "later"] = "task",
    outputs: Annotated[Literal["seen", "all"], "later"] = "seen",
    order: Annotated[Literal["digits", "seed"], "later"] = "digits",
    pad: Annotated[int, "later"] = 0,
    normalise: Annotated[Literal["channel", "none"], "later"] = "channel",
    seed: int,
) -> "Benchmark":
    """Split the classes into ``tasks`` equal groups; ``subset`` and ``holdout`` as in permuted-mnist.

    ``order`` is that of the digits, or one drawn from the run's ``seed``. ``scenario`` and ``outputs`` are explained in
    ``continual/scenarios``, ``pad`` and ``normalise`` in ``continual/pixels``.

    The network, five heads, the frozen heads of other tasks and a new optimizer for each task are those of Xie et al.
    2021, appendix C.2 (after Zenke et al. 2017). Of the batch sizes 64, 128 and 256, the last is best for plain
    training on held-out training images; epochs and learning rate are as in permuted-mnist, not tuned for any
    strategy.
    """
    import torch

    from cl_nvrm.benchmark import Recipe, TaskData, chosen_rows
    from cl_nvrm.continual.pixels import prepared
    from cl_nvrm.continual.scenarios import in_scenario
    from cl_nvrm.models.mlp import MLP

    if tasks < 1 or mnist.classes % tasks:
        raise ValueError(f"tasks must divide the {mnist.classes} classes, got {tasks}")
    if width < 1 or depth < 0:
        raise ValueError(f"width must be at least 1 and depth at least 0, got {width}, {depth}")
    size = mnist.classes // tasks
    images = prepared(mnist, pad, normalise)
    train_rows, (test_x, test_y, test_rows) = chosen_rows(images, subset, holdout)
    classes = torch.arange(mnist.classes)
    if order == "seed":
        classes = torch.randperm(mnist.classes, generator=torch.Generator().manual_seed(derived_seed(seed, "classes")))
    place = classes.argsort().to(images.train_y.device)  # of each class in that order

    def part(x: "Tensor", y: "Tensor", rows: "Tensor", task: int) -> "TaskData":
        rows = rows[place[y[rows]] // size == task]
        return TaskData(x, place[y[rows]] % size, rows=rows)

    return in_scenario(
        scenario,
        [part(images.train_x, images.train_y, train_rows, task) for task in range(tasks)],
        [part(test_x, test_y, test_rows, task) for task in range(tasks)],
        lambda classes, heads: MLP(images.values, classes, width=width, depth=depth, heads=heads),
        classes=size,
        about=f"{size} classes a task",
        outputs=outputs,
        recipe=Recipe(fresh_optimizer=fresh_optimizer),
        details={"classes": classes.tolist()} if order == "seed" else {},
    )
