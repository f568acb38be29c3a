"""One data set, one training run: the benchmarks of generalisation and label noise as sequences of a single task."""

from typing import Literal

import torch
from torch import Tensor

from cl_nvrm.benchmark import Benchmark, Recipe, TaskData, Watched, chosen_rows
from cl_nvrm.data import Images
from cl_nvrm.generalization.augment import crop_flip, per_pixel
from cl_nvrm.generalization.label_noise import flipped, transition
from cl_nvrm.spec import derived_seed, grammar
from cl_nvrm.spec.catalog import maker, recipe
from cl_nvrm.spec.curves import CORRECTED, MEMORISED, TEST, TRAINING

Normalise = Literal["channel", "pixel"]
# For small networks, and ours, as Xie et al. have none as small; the others say in their files what differs.
RECIPE = Recipe(60, 128, "sgd:momentum=0.9", 0.05, 0.0, schedule="steps:drops=2")


def classification(
    images: Images,
    *,
    model: str,
    seed: int,
    noise: str = "symmetric",
    rate: float = 0.0,
    noise_seed: int = -1,
    subset: int = 0,
    holdout: int = 0,
    augment: bool = False,
    normalise: Normalise = "channel",
) -> Benchmark:
    """Build a one-task benchmark whose training labels are noisy and whose test labels are clean.

    ``noise`` and ``rate`` are those of ``transition``; ``noise_seed`` decides which labels are flipped (-1: the run's
    own seed does, so that trials differ). ``subset`` and ``holdout`` are those of ``chosen_rows``; held-out labels are
    as noisy as the training ones, since who chooses hyperparameters has no others. ``augment`` crops and mirrors
    training batches at random (digits are not mirrored); ``normalise="pixel"`` subtracts the mean training image.

    Watched after every epoch: ``test accuracy``; ``training accuracy``, against the given labels; of the flipped
    samples, ``memorised``, the share predicted as their wrong label says, and ``corrected``, as the true one does.
    """
    network = grammar.parse_nested("models", model)
    train_rows, (test_x, test_y, test_rows) = chosen_rows(images, subset, holdout)
    matrix = transition(noise, rate, images.classes, images.name)
    flips_seed = noise_seed if noise_seed >= 0 else seed
    true = images.train_y[train_rows]
    noisy = flipped(true, matrix, derived_seed(flips_seed, "flips"))
    held = flipped(test_y[test_rows], matrix, derived_seed(flips_seed, "held-out flips")).given if holdout else None
    centre = per_pixel(images.train_x[train_rows]) if normalise == "pixel" else None

    def centred(x: Tensor) -> Tensor:
        return x if centre is None else x - centre

    train_x = centred(images.train_x)
    black = images.black if centre is None else torch.zeros_like(images.black)
    crop = crop_flip(images, black) if augment else None
    test = TaskData(
        train_x if holdout else centred(test_x), test_y[test_rows] if held is None else held, rows=test_rows
    )
    as_given = TaskData(train_x, noisy.given, rows=train_rows)
    shape = tuple(images.train_x.shape[1:])
    return Benchmark(
        scenario=f"one task, {100 * noisy.rate:.1f} % of {len(true)} training labels wrong",
        train=[TaskData(train_x, noisy.given, rows=train_rows, augment=crop)],
        test=[test],
        model=lambda: network.make(shape, images.classes),
        chance=1 / images.classes,
        recipe=RECIPE.but(recipe(maker("models", network.name), "classification")),
        diagnostics={"flip_rate": noisy.rate, "flips_sha256": noisy.sha256},
        watched=watched(as_given, true, test),
    )


def watched(train: TaskData, true: Tensor, test: TaskData) -> tuple[Watched, ...]:
    """Return what is predicted after every epoch: test samples, and training samples against given and true labels."""
    everything, wrong = torch.arange(len(train)), (train.labels != true).cpu().nonzero().view(-1)
    against = {TRAINING: (everything, train.labels)}
    if len(wrong):
        against |= {MEMORISED: (wrong, train.labels[wrong]), CORRECTED: (wrong, true[wrong])}
    return Watched(test, {TEST: (torch.arange(len(test)), test.labels)}), Watched(train, against)
