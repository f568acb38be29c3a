"""All images in every task, their values in other places: permuted at random, or turned by an angle."""

import hashlib
import random
from collections.abc import Sequence
from math import isfinite
from typing import Any, Literal

import torch
from torch import Tensor

from cl_nvrm.benchmark import Benchmark, Recipe, TaskData, chosen_rows
from cl_nvrm.continual.networks import Network
from cl_nvrm.continual.pixels import turned
from cl_nvrm.continual.scenarios import Outputs, Scenario, in_scenario
from cl_nvrm.data import Images
from cl_nvrm.spec import derived_seed

First = Literal["permuted", "plain"]


def permuted(
    images: Images,
    network: Network,
    *,
    tasks: int,
    subset: int,
    holdout: int,
    scenario: Scenario,
    outputs: Outputs,
    first: First,
    recipe: Recipe,
    seed: int,
) -> Benchmark:
    """Permute the values of every image, in another way in each task, which the run's ``seed`` decides.

    ``first="plain"`` leaves those of the first task in their places. ``images`` are as the network shall see them;
    ``subset`` and ``holdout`` are those of ``chosen_rows``. ValueError for less than one task.
    """
    if tasks < 1:
        raise ValueError(f"tasks must be at least 1, got {tasks}")
    places, hashes = [], []
    for task in range(tasks):
        generator = torch.Generator().manual_seed(derived_seed(seed, "permutation", task))
        permutation = torch.randperm(images.values, generator=generator)
        if task == 0 and first == "plain":
            permutation = torch.arange(images.values)
        hashes.append(hashlib.sha256(permutation.numpy().tobytes()).hexdigest()[:16])
        places.append((permutation.to(images.train_x.device),))
    return _rearranged(
        images, network, places, subset, holdout, scenario, outputs, recipe, f"{tasks} pixel permutations",
        {"permutations_sha256": hashes},
    )  # fmt: skip


def rotated(
    images: Images,
    network: Network,
    *,
    tasks: int,
    angles: str,
    most: float,
    subset: int,
    holdout: int,
    scenario: Scenario,
    outputs: Outputs,
    recipe: Recipe,
    seed: int,
) -> Benchmark:
    """Turn every image anticlockwise about its middle, by another angle in each task.

    ``angles="even"``: k · ``most`` / ``tasks`` degrees for task k; ``random``: drawn from the run's ``seed`` below
    ``most``; or one number a task, as ``0/45/90``. The rest is as for ``permuted``. ValueError for other texts.
    """
    if tasks < 1:
        raise ValueError(f"tasks must be at least 1, got {tasks}")
    if not 0 < most <= 360:
        raise ValueError(f"most must be above 0 and at most 360 degrees, got {most}")
    degrees = _degrees(angles, tasks, most, seed)
    places = [tuple(tensor.to(images.train_x.device) for tensor in turned(images, angle)) for angle in degrees]
    return _rearranged(
        images, network, places, subset, holdout, scenario, outputs, recipe, f"{tasks} angles", {"angles": degrees}
    )


def _rearranged(
    images: Images,
    network: Network,
    places: Sequence[tuple[Tensor, ...]],
    subset: int,
    holdout: int,
    scenario: Scenario,
    outputs: Outputs,
    recipe: Recipe,
    about: str,
    details: dict[str, Any],
) -> Benchmark:
    """Tasks that share all but the places of their values, so that a hundred take hardly more memory than five."""
    train_rows, (test_x, test_y, test_rows) = chosen_rows(images, subset, holdout)
    train = TaskData(images.train_x, images.train_y[train_rows], rows=train_rows)
    test = TaskData(test_x, test_y[test_rows], rows=test_rows)
    return in_scenario(
        scenario,
        [train.permuted(*place) for place in places],
        [test.permuted(*place) for place in places],
        network,
        classes=images.classes,
        about=about,
        outputs=outputs,
        recipe=recipe,
        details=details,
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
