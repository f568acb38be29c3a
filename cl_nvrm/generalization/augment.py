"""Augmentation of whole batches on their own device: random crops of a framed image, random mirroring."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cl_nvrm.data import Images

# a mirrored character is another one, or none
NOT_MIRRORED = ("mnist", "kmnist", "digits")


@dataclass(frozen=True)
class CropFlip:
    """Cuts each image out of itself in a frame of ``pad`` pixels, at a place of its own, and mirrors it or not.

    All (2 ``pad`` + 1)² places are equally likely, and so is either side, left to right, if ``flip`` (which digits
    cannot bear) is on. The frame is ``black`` (channels or 1, 1, 1), such as ``Images.black``.
    """

    black: Tensor
    pad: int = 4
    flip: bool = True

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return new images (n, channels, height, width) made of those given, which stay as they are.

        ``generator`` is one of the CPU, whatever the device of the images, so that all devices see the same draws.
        """
        count, channels, height, width = images.shape
        down, right, mirrored = self.drawn(count, generator).to(images.device)[:, :, None]
        rows = down + torch.arange(height, device=images.device)
        columns = torch.arange(width, device=images.device).expand(count, width)
        columns = right + torch.where(mirrored == 1, width - 1 - columns, columns)
        # on a CPU one gather over flat pixels beats unfolding, and an index for each axis by several times
        full = width + 2 * self.pad
        index = (rows[:, :, None] * full + columns[:, None, :]).view(count, 1, -1).expand(-1, channels, -1)
        return self._framed(images).flatten(2).gather(2, index).view(images.shape)

    def drawn(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw for each image, as (3, count): the first row and the first column of the cut, and 1 if it is mirrored.

        Rows and columns count from the frame's upper left corner, so ``pad`` is where the image itself lies.
        """
        place = torch.randint(2 * self.pad + 1, (2, count), generator=generator)
        return torch.cat([place, torch.randint(1 + self.flip, (1, count), generator=generator)])

    def _framed(self, images: Tensor) -> Tensor:
        count, channels, height, width = images.shape
        framed = images.new_empty(count, channels, height + 2 * self.pad, width + 2 * self.pad)
        framed.copy_(self.black)
        framed[:, :, self.pad : self.pad + height, self.pad : self.pad + width] = images
        return framed


def crop_flip(images: Images, black: Tensor | None = None) -> CropFlip:
    """Return what crops and mirrors a data set's images at random; its frame is ``black``, or what black is there."""
    return CropFlip(images.black if black is None else black, flip=images.name not in NOT_MIRRORED)


def per_pixel(train: Tensor) -> Tensor:
    """Return the mean image (channels, height, width) of training images (n, …), to subtract from every image."""
    return train.mean(0)
