"""Split MNIST: {0,1}, {2,3}, … one after the other, each with its own output layer (task-incremental)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from cl_nvrm.benchmark import Benchmark
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
) -> "Benchmark":
    """Split the classes into ``tasks`` equal groups, in order; ``subset`` and ``holdout`` as in permuted-mnist.

    The network, five heads, the frozen heads of other tasks and a new optimizer for each task are those of Xie et al.
    2021, appendix C.2 (after Zenke et al. 2017). Of the batch sizes 64, 128 and 256, the last is best for plain
    training on held-out training images; epochs and learning rate are as in permuted-mnist, not tuned for any
    strategy.
    """
    from cl_nvrm.benchmark import Benchmark, Recipe, TaskAware, TaskData, chosen_rows
    from cl_nvrm.models.mlp import MLP

    if tasks < 1 or mnist.classes % tasks:
        raise ValueError(f"tasks must divide the {mnist.classes} classes, got {tasks}")
    if width < 1 or depth < 0:
        raise ValueError(f"width must be at least 1 and depth at least 0, got {width}, {depth}")
    size = mnist.classes // tasks
    train_rows, (test_x, test_y, test_rows) = chosen_rows(mnist, subset, holdout)

    def part(images: "Tensor", labels: "Tensor", rows: "Tensor", task: int) -> TaskData:
        rows = rows[labels[rows] // size == task]
        return TaskData(images, labels[rows] % size, rows=rows, task=task)

    return Benchmark(
        scenario=f"task-incremental, {size} classes a task",
        train=[part(mnist.train_x, mnist.train_y, train_rows, task) for task in range(tasks)],
        test=[part(test_x, test_y, test_rows, task) for task in range(tasks)],
        model=lambda: TaskAware(MLP(mnist.values, size, width=width, depth=depth, heads=tasks)),
        chance=1 / size,
        heads=tasks,
        recipe=Recipe(fresh_optimizer=fresh_optimizer),
    )
