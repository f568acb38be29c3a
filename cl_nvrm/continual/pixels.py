"""Pixels: images framed, rescaled or turned, as the settings of published experiments ask."""

import math
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from cl_nvrm.data import Images

Normalise = Literal["channel", "none"]


@lru_cache(maxsize=1)  # runs of a sweep share them; of images there is one object for each data set
def prepared(images: Images, pad: int, normalise: Normalise) -> Images:
    """Return a data set in a black frame of ``pad`` x ``pad`` pixels (0: as it is), standardised or not.

    ``channel`` standardises each channel by mean and deviation of the training images, the frame among them; ``none``
    leaves pixels in [0, 1]. ValueError if the images are larger than the frame.
    """
    if pad < 0:
        raise ValueError(f"pad must be at least 0, got {pad}")
    found = images.framed(pad) if pad else images
    if normalise == "none":
        return found.in_unit_range()
    return found if found is images else found.standardised_again()


def turned(images: Images, degrees: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return how images are turned anticlockwise about their middle: which value goes where, and what is black.

    The first tensor (D,) has, for each of the D values of a turned image, the value of the original that lies there,
    the nearest one; the second (D,), which of them lie outside of the original; the third (D,), what these become.
    """
    channels, height, width = images.train_x.shape[1:]
    angle = math.radians(degrees)
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) + 0.5 - height / 2,
        torch.arange(width, dtype=torch.float64) + 0.5 - width / 2,
        indexing="ij",
    )
    column = (math.cos(angle) * x - math.sin(angle) * y + width / 2).floor().long()
    row = (math.sin(angle) * x + math.cos(angle) * y + height / 2).floor().long()
    outside = (column < 0) | (column >= width) | (row < 0) | (row >= height)
    place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    source = torch.arange(channels)[:, None] * height * width + place.flatten()
    black = images.black.cpu().expand(channels, height, width)
    return source.flatten(), outside.flatten().repeat(channels), black.flatten()
