"""Label noise: wrong training labels drawn from a transition matrix, the same share of each class in every trial.

Row i of a matrix T (K, K) is the law of the given label of a sample whose true class is i.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cl_nvrm.errors import UserError

KINDS = ("symmetric", "pairflip", "asymmetric")
_DIGITS = {7: 1, 2: 7, 5: 6, 6: 5, 3: 8}
# Patrini et al., "Making deep neural networks robust to label noise", CVPR 2017, section 5: classes that are taken for
# one another. For CIFAR-10: truck → automobile, bird → airplane, deer → horse, cat ↔ dog.
CLASS_MAPS = {"mnist": _DIGITS, "digits": _DIGITS, "cifar10": {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}}
# CIFAR-100's superclass of each class, both in alphabetical order (Krizhevsky 2009).
SUPERCLASSES = (
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7,
    6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10,
    16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16,
    12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13,
)  # fmt: skip


@dataclass(frozen=True)
class NoisyLabels:
    """Labels (n,) after the noise, and which of them it changed."""

    given: Tensor
    flipped: Tensor

    @property
    def rate(self) -> float:
        """The share of labels that were changed."""
        return float(self.flipped.double().mean())

    @property
    def sha256(self) -> str:
        """Sixteen hexadecimal digits over all given labels, and so over every flip."""
        return hashlib.sha256(self.given.cpu().numpy().astype("<i8").tobytes()).hexdigest()[:16]


def transition(kind: str, rate: float, classes: int, dataset: str = "") -> Tensor:
    """Return the matrix T (K, K) of a kind of noise; each flips a sample of a class that can flip with that rate.

    ``symmetric`` goes to each other class alike and never to the class itself (unlike Zhang et al. 2017); ``pairflip``
    to the next class, i → i + 1 mod K (Han et al., NeurIPS 2018); ``asymmetric`` to the class it is usually taken for,
    by the name of the data set, and leaves classes without such a one alone. Any other text is a file: K rows of K
    numbers, which are T itself, whatever the rate. UserError names the row or the size that is wrong.
    """
    if not 0 <= rate <= 1:
        raise UserError(f"rate must lie within 0 and 1, got {rate:g}")
    if classes < 2:
        raise UserError(f"label noise needs at least two classes, got {classes}")
    stay, others = torch.eye(classes, dtype=torch.double), torch.ones(classes, classes, dtype=torch.double)
    match kind:
        case "symmetric":
            return (1 - rate) * stay + rate * (others - stay) / (classes - 1)
        case "pairflip":
            return (1 - rate) * stay + rate * stay.roll(1, dims=1)
        case "asymmetric":
            matrix = stay.clone()
            for true, taken_for in class_map(dataset, classes).items():
                matrix[true, true], matrix[true, taken_for] = 1 - rate, rate
            return matrix
    return matrix_from(kind, classes)


def class_map(dataset: str, classes: int) -> dict[int, int]:
    """Return which class each confusable class is taken for in a data set; UserError where there is no such custom."""
    if dataset == "cifar100" and classes == len(SUPERCLASSES):
        groups = [[c for c, group in enumerate(SUPERCLASSES) if group == g] for g in range(20)]
        return {c: members[(k + 1) % len(members)] for members in groups for k, c in enumerate(members)}
    if dataset not in CLASS_MAPS or classes != 10:
        raise UserError(f"noise=asymmetric has no class map for '{dataset}'; write a matrix to a file and name it")
    return CLASS_MAPS[dataset]


def matrix_from(file: str, classes: int) -> Tensor:
    """Read T from a text file of K lines with K numbers each, separated by blanks or commas.

    ``file`` is its path, or path@digest, as a spec has it; then the file must still be the one that was meant.
    """
    name, digest = (file[:-9], file[-8:]) if re.search(r"@[0-9a-f]{8}$", file) else (file, "")
    path = Path(name)
    if not path.is_file():
        raise UserError(f"No noise '{name}'; there are {', '.join(KINDS)}, or write the path of a file with a matrix")
    try:
        if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(digest):
            raise UserError(f"{path} has changed since this run was planned; plan it again")
        lines = [line.partition("#")[0].replace(",", " ").split() for line in path.read_text("utf-8").splitlines()]
        rows = [[float(number) for number in line] for line in lines if line]
    except (OSError, ValueError) as problem:
        raise UserError(f"{path} is not a matrix of numbers ({problem})") from problem
    widths = {len(row) for row in rows}
    if len(rows) != classes or widths != {classes}:
        shape = f"{len(rows)} x {'/'.join(map(str, sorted(widths))) or 0}"
        raise UserError(f"{path} is {shape}; for {classes} classes it must be {classes} x {classes}")
    matrix = torch.tensor(rows, dtype=torch.double)
    for number, row in enumerate(matrix, 1):
        if not bool(torch.isfinite(row).all()) or bool((row < 0).any()) or abs(float(row.sum()) - 1) > 1e-6:
            raise UserError(f"{path}, row {number}: must be probabilities that sum to 1, got {row.tolist()}")
    return matrix


def flipped(labels: Tensor, matrix: Tensor, seed: int) -> NoisyLabels:
    """Draw given labels (n,) for true ones by a matrix T (K, K).

    Of each class, exactly the share T says goes to each other class, up to rounding at random; the seed decides which
    samples. Trials thus differ in which labels are wrong and not in how many.
    """
    generator = np.random.default_rng(seed)
    true = labels.cpu().numpy()
    given = true.copy()
    for number, row in enumerate(matrix.numpy()):
        members = generator.permutation(np.flatnonzero(true == number))
        exact = row / row.sum() * len(members)
        counts = np.floor(exact + 1e-9).astype(int)
        rest, left = np.clip(exact - counts, 0, None), len(members) - counts.sum()
        if left == 1:
            counts[generator.choice(len(row), 1, replace=False, p=rest / rest.sum())] += 1
        elif left:
            # systematic sampling: each class gets one more with a probability of exactly what it lacks
            order = generator.permutation(len(row))
            places = np.floor(np.cumsum([generator.random(), *(rest[order] * left / rest.sum())]) + 1e-9)
            counts[order] += np.diff(places).astype(int)
        given[members] = np.repeat(np.arange(len(row)), counts)
    result = torch.from_numpy(given).to(labels)
    return NoisyLabels(result, result != labels)
