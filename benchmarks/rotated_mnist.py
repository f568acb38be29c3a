"""Rotated MNIST: the same digits turned by another angle in each task, with a shared output layer."""

import random
from math import isfinite
from typing import TYPE_CHECKING, Literal

from cl_nvrm.spec import derived_seed

if TYPE_CHECKING:
    from cl_nvrm.benchmark import Benchmark
    from cl_nvrm.data import Images


def benchmark(
    mnist: "Images",
    *,
    tasks: int = 5,
    angles: str = "even",
    most: float = 180.0,
    width: int = 1024,
    depth: int = 2,
    subset: int = 0,
    holdout: int = 0,
    fresh_optimizer: bool = True,
    scenario: Literal["task", "domain", "class"] = "domain",
    outputs: Literal["seen", "all"] = "seen",
    pad: int = 0,
    normalise: Literal["channel", "none"] = "channel",
    seed: int,
) -> "Benchmark":
    """Turn the digits anticlockwise, by angles that lie in [0, ``most``) degrees, or by those given.

    ``even``: k · most / tasks for task k (Lopez-Paz and Ranzato, NeurIPS 2017, draw one from each such interval);
    ``random``: drawn from the run's seed, as Buzzega et al. (NeurIPS 2020) do; or one angle a task, as in
    ``angles=0/45/90`` with ``tasks=3``. Each pixel is the nearest one of the original, and black where there is none.
    All other parameters and the recipe are those of permuted-mnist.
    """
    from cl_nvrm.benchmark import Recipe, TaskData, chosen_rows
    from cl_nvrm.continual.pixels import prepared, turned
    from cl_nvrm.continual.scenarios import in_scenario
    from cl_nvrm.models.mlp import MLP

    if tasks < 1 or width < 1 or depth < 0:
        raise ValueError(f"tasks and width must be at least 1 and depth at least 0, got {tasks}, {width}, {depth}")
    if not 0 < most <= 360:
        raise ValueError(f"most must be above 0 and at most 360 degrees, got {most}")
    images = prepared(mnist, pad, normalise)
    train_rows, (test_x, test_y, test_rows) = chosen_rows(images, subset, holdout)
    train_images = TaskData(images.train_x, images.train_y[train_rows], rows=train_rows)
    test_images = TaskData(test_x, test_y[test_rows], rows=test_rows)
    degrees = _degrees(angles, tasks, most, seed)
    train, test = [], []
    for task in range(tasks):
        places = [tensor.to(images.train_x.device) for tensor in turned(images, degrees[task])]
        train.append(train_images.permuted(*places))
        test.append(test_images.permuted(*places))
    return in_scenario(
        scenario,
        train,
        test,
        lambda classes, heads: MLP(images.values, classes, width=width, depth=depth, heads=heads),
        classes=images.classes,
        about=f"{tasks} angles",
        outputs=outputs,
        recipe=Recipe(fresh_optimizer=fresh_optimizer),
        details={"angles": degrees},
    )


def _degrees(angles: str, tasks: int, most: float, seed: int) -> list[float]:
    if angles == "even":
        return [round(most * (task / tasks), 6) for task in range(tasks)]
    if angles == "random":
        return [round(most * random.Random(derived_seed(seed, "angle", task)).random(), 6) for task in range(tasks)]
    try:
        told = [float(text) for text in angles.split("/")]
    except ValueError:
        told = []
    if len(told) != tasks or not all(map(isfinite, told)):
        raise ValueError(f"angles must be even, random, or {tasks} degrees such as 0/45/90, one a task, got {angles}")
    return told
