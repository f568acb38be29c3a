"""Randomisation tests: does a network fit labels, or images, that say nothing? A benchmark of a single task.

Zhang, Bengio, Hardt, Recht and Vinyals, "Understanding deep learning requires rethinking generalization", ICLR 2017
(arXiv 1611.03530), section 2 and appendix A.
"""

from typing import Literal

import torch
from torch import Tensor

from cl_nvrm.benchmark import Benchmark, Recipe, TaskData, Watched, chosen_rows
from cl_nvrm.data import Images
from cl_nvrm.errors import UserError
from cl_nvrm.generalization.classification import watched
from cl_nvrm.generalization.corruption import (
    cropped,
    digest,
    gaussian_images,
    pixel_permutation,
    random_labels,
    random_pixels,
    whitened,
)
from cl_nvrm.spec import derived_seed, grammar
from cl_nvrm.spec.catalog import maker, recipe
from cl_nvrm.spec.curves import VALIDATION

Corruption = Literal["labels", "shuffled-pixels", "random-pixels", "gaussian"]
KINDS = ("labels", "shuffled-pixels", "random-pixels", "gaussian")
# Appendix A: momentum 0.9, lr 0.01 (0.1 for Inception, whose file says so) times 0.95 an epoch, and 0.95⁶⁰ = 0.046. It
# gives no batch size and no number of epochs: 128 is what its reproductions take, 60 is ours.
RECIPE = Recipe(60, 128, "sgd:momentum=0.9", 0.01, 0.0, schedule="exponential:final=0.046")


def randomisation(
    images: Images,
    *,
    model: str,
    seed: int,
    corruption: Corruption = "labels",
    p: float = 1.0,
    subset: int = 0,
    holdout: int = 0,
    validation: int = 0,
    whitening: bool = False,
) -> Benchmark:
    """Build a one-task benchmark with corrupted labels or images, drawn once from ``seed``.

    ``labels`` draws a share ``p`` of the training labels anew, as ``random_labels`` does. The others leave labels alone
    and corrupt training and test images alike: ``shuffled-pixels`` by one order of the pixels for all images,
    ``random-pixels`` by one for each, ``gaussian`` by noise with the moments of the training images. ``subset`` and
    ``holdout`` are those of ``chosen_rows``; ``validation`` puts aside so many of the training samples, by ``seed``.
    Held-out and validation labels are corrupted like those for training; test labels are clean.

    Images are the data set's standardised tensors. ``whitening`` goes on from there as the paper does from [0, 1],
    which is the same for one channel: it takes the middle 28 × 28 pixels and standardises each image by itself.
    Corruption, to which the paper gives no place, comes in between.

    Watched after every epoch: ``test accuracy``; ``training accuracy``, against the given labels; of the samples whose
    label has changed ``memorised``, the share predicted as given, and ``corrected``, as true; ``validation accuracy``.
    """
    if corruption not in KINDS:
        raise UserError(f"corruption must be one of {', '.join(KINDS)}, got '{corruption}'")
    if corruption != "labels" and p != 1:
        raise UserError(f"p is the share of labels drawn anew; with corruption={corruption} leave it out")
    network = grammar.parse_nested("models", model)
    rows, (test_x, test_y, test_rows) = chosen_rows(images, subset, holdout)
    if not 0 <= validation < len(rows):
        raise UserError(f"validation must lie within 0 and {len(rows) - 1}, one less than is trained on")
    share = p if corruption == "labels" else 0.0

    def labels(true: Tensor, part: str) -> Tensor:
        return random_labels(true, share, images.classes, derived_seed(seed, "labels", part)).given

    def pixels(x: Tensor, rows: Tensor, part: str) -> tuple[Tensor, Tensor]:
        return _pixels(x, rows, images.train_x, corruption, derived_seed(seed, "pixels", part), whitening=whitening)

    true = images.train_y[rows]
    given = labels(true, "train")
    train_x, rows = pixels(images.train_x, rows, "train")
    tested = labels(test_y[test_rows], "held out") if holdout else test_y[test_rows]
    test_x, test_rows = pixels(test_x, test_rows, "test")
    shape = (train_x.shape[1], train_x.shape[2], train_x.shape[3])
    order = pixel_permutation(shape, derived_seed(seed, "pixels")) if corruption == "shuffled-pixels" else None
    order = None if order is None else order.to(train_x.device)

    def of(index: Tensor) -> TaskData:
        return TaskData(train_x, given[index], rows=rows[index], permutation=order)

    shuffle = torch.randperm(len(rows), generator=torch.Generator().manual_seed(derived_seed(seed, "validation")))
    aside, index = (part.sort().values.to(rows.device) for part in shuffle.split([validation, len(rows) - validation]))
    train, test = of(index), TaskData(test_x, tested, rows=test_rows, permutation=order)
    kept = {"labels": train.labels, "shuffled-pixels": order}.get(corruption)
    changed = train.labels != true[index]
    return Benchmark(
        scenario=f"one task, {len(train)} training samples, {_said(corruption, p)}",
        train=[train],
        test=[test],
        model=lambda: network.make(shape, images.classes),
        chance=1 / images.classes,
        recipe=RECIPE.but(recipe(maker("models", network.name), "randomisation")),
        diagnostics={
            "wrong_labels": float(changed.double().mean()),
            "corruption_sha256": digest(train_x[train.rows] if kept is None else kept),
        },
        watched=(*watched(train, true[index], test), *_validated(of(aside))),
    )


def _pixels(
    x: Tensor, rows: Tensor, like: Tensor, corruption: Corruption, seed: int, *, whitening: bool
) -> tuple[Tensor, Tensor]:
    """Return prepared images and which rows of them count: those given, unless the images become others."""
    if corruption in ("labels", "shuffled-pixels") and not whitening:
        return x, rows
    x = cropped(x[rows]) if whitening else x[rows]
    if corruption == "random-pixels":
        x = random_pixels(x, seed)
    elif corruption == "gaussian":
        x = gaussian_images(len(x), cropped(like) if whitening else like, seed)
    return whitened(x) if whitening else x, torch.arange(len(x), device=x.device)


def _validated(aside: TaskData) -> tuple[Watched, ...]:
    everything = torch.arange(len(aside))
    return (Watched(aside, {VALIDATION: (everything, aside.labels)}),) if len(aside) else ()


def _said(corruption: Corruption, p: float) -> str:
    if corruption == "labels":
        return f"{100 * p:g} % of labels random"
    return {"shuffled-pixels": "pixels shuffled alike", "random-pixels": "pixels shuffled each for itself"}.get(
        corruption, "Gaussian noise for images"
    )
