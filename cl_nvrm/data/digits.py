"""The embedded data set: scikit-learn's handwritten digits, grown to MNIST's size without any download.

The 1,797 scans of 8 x 8 pixels (UCI, Alpaydin and Kaynak 1998) are split into disjoint training and test originals,
then drawn at 28 x 28 through random affine and elastic maps (after Simard, Steinkraus and Platt, ICDAR 2003) to
60,000 and 10,000 images. One fixed seed: everybody has the same data. It is easier than MNIST and no substitute for
it; its name is in every result.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from cl_nvrm.data.images import RawImages

VERSION = 1  # part of the cache's name; raise it when a pixel changes
TRAIN, TEST = 60_000, 10_000
_CHUNK = 5_000


def make() -> RawImages:
    """Draw the images; about two seconds."""
    from sklearn.datasets import load_digits  # heavy, and not needed where the images have been drawn before

    scans = load_digits()
    images = torch.tensor(scans.images, dtype=torch.float32)[:, None] * (255 / 16)
    labels = torch.tensor(scans.target).long()
    generator = torch.Generator().manual_seed(20110620)
    order = torch.randperm(len(labels), generator=generator)
    test, train = order[:300], order[300:]
    train_x, train_y = _drawn(images[train], labels[train], TRAIN, generator)
    test_x, test_y = _drawn(images[test], labels[test], TEST, generator)
    return RawImages(train_x, train_y, test_x, test_y)


def _drawn(images: Tensor, labels: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    which = torch.randint(len(images), (count,), generator=generator)
    parts = [_deformed(images[chunk], generator) for chunk in which.split(_CHUNK)]
    return torch.cat(parts), labels[which]


def _deformed(images: Tensor, generator: torch.Generator) -> Tensor:
    n = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(n).uniform_(low, high, generator=generator)

    # The digit fills 20 of the 28 pixels, as in MNIST, give or take; angles up to 15 degrees.
    angle, shear = uniform(-math.pi / 12, math.pi / 12), uniform(-0.2, 0.2)
    zoom_x, zoom_y = uniform(1.2, 1.55), uniform(1.2, 1.55)
    shift_x, shift_y = uniform(-0.15, 0.15), uniform(-0.15, 0.15)
    cos, sin = angle.cos(), angle.sin()
    theta = torch.stack(
        [
            torch.stack([zoom_x * cos, zoom_x * (shear * cos - sin), shift_x], dim=1),
            torch.stack([zoom_y * sin, zoom_y * (shear * sin + cos), shift_y], dim=1),
        ],
        dim=1,
    )
    grid = affine_grid(theta, [n, 1, 28, 28], align_corners=False)
    coarse = torch.empty(n, 2, 5, 5).normal_(generator=generator)
    bend = interpolate(coarse, size=(28, 28), mode="bicubic", align_corners=True)
    grid = grid + 0.06 * bend.permute(0, 2, 3, 1)
    drawn = grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return drawn.clamp_(0, 255).round_().to(torch.uint8)
