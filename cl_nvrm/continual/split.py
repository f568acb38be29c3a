"""Split: the classes of a data set in equal groups, one group a task."""

from typing import Literal

import torch
from torch import Tensor

from cl_nvrm.benchmark import Benchmark, Recipe, TaskData, chosen_rows
from cl_nvrm.continual.networks import Network
from cl_nvrm.continual.scenarios import Outputs, Scenario, in_scenario
from cl_nvrm.data import Images
from cl_nvrm.generalization.augment import crop_flip
from cl_nvrm.spec import derived_seed

Order = Literal["given", "seed"]


def split(
    images: Images,
    network: Network,
    *,
    tasks: int,
    subset: int,
    holdout: int,
    scenario: Scenario,
    outputs: Outputs,
    order: Order,
    augment: bool = False,
    recipe: Recipe,
    seed: int,
) -> Benchmark:
    """Split the classes into ``tasks`` groups, in the ``order`` given or one drawn from the run's ``seed``.

    ``images`` are as the network shall see them, ``augment`` crops and mirrors training batches at random, ``subset``
    and ``holdout`` are those of ``chosen_rows``. ValueError unless ``tasks`` divides the number of classes.
    """
    if tasks < 1 or images.classes % tasks:
        raise ValueError(f"tasks must divide the {images.classes} classes, got {tasks}")
    size = images.classes // tasks
    train_rows, (test_x, test_y, test_rows) = chosen_rows(images, subset, holdout)
    classes = torch.arange(images.classes)
    if order == "seed":
        generator = torch.Generator().manual_seed(derived_seed(seed, "classes"))
        classes = torch.randperm(images.classes, generator=generator)
    place = classes.argsort().to(images.train_y.device)  # of each class in that order

    def part(x: Tensor, y: Tensor, rows: Tensor, task: int, crop: bool = False) -> TaskData:
        rows = rows[place[y[rows]] // size == task]
        return TaskData(x, place[y[rows]] % size, rows=rows, augment=crop_flip(images) if crop else None)

    return in_scenario(
        scenario,
        [part(images.train_x, images.train_y, train_rows, task, augment) for task in range(tasks)],
        [part(test_x, test_y, test_rows, task) for task in range(tasks)],
        network,
        classes=size,
        about=f"{size} classes a task",
        outputs=outputs,
        recipe=recipe,
        details={"classes": classes.tolist()} if order == "seed" else {},
    )
