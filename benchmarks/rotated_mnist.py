"""Rotated MNIST: the same digits turned by another angle in each task, with a shared output layer."""

import random
from typing import TYPE_CHECKING, Literal

from cl_nvrm.spec import derived_seed

if TYPE_CHECKING:
    from cl_nvrm.benchmark import Benchmark
    from cl_nvrm.data import Images


def benchmark(
    mnist: "Images",
    *,
    tasks: int = 5,
    angles: Literal["even", "random"] = "even",
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
    """Turn the digits anticlockwise, by angles that lie in [0, ``most``) degrees.

    ``even``: k · most / tasks for task k, as Lopez-Paz and Ranzato (NeurIPS 2017) have them, from 0 on; ``random``:
    drawn from the run's seed, as Buzzega et al. (NeurIPS 2020) do. Each pixel is the nearest one of the original, and
    black where there is none. All other parameters and the recipe are those of permuted-mnist.
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
    train, test, degrees = [], [], []
    for task in range(tasks):
        share = task / tasks if angles == "even" else random.Random(derived_seed(seed, "angle", task)).random()
        degrees.append(round(most * share, 6))
        places = [tensor.to(images.train_x.device) for tensor in turned(images, degrees[-1])]
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
