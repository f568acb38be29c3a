"""Corruption: labels and images without what makes a class, for randomisation tests; tensors in, tensors out.

Zhang, Bengio, Hardt, Recht and Vinyals, "Understanding deep learning requires rethinking generalization", ICLR 2017
(arXiv 1611.03530), section 2.1. What is random follows from a seed alone, so it is drawn once and the same in every
epoch. Images are (n, channels, height, width); the channels of a pixel stay together.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

from cl_nvrm.errors import UserError
from cl_nvrm.generalization.label_noise import NoisyLabels, flipped

_CHUNK = 5_000  # images at a time: indices take twice the memory of the pixels they move


def random_labels(labels: Tensor, p: float, classes: int, seed: int) -> NoisyLabels:
    """Draw a share ``p`` of the labels (n,) anew, from all classes alike, so also the true one.

    Wrong in the end is the share p (1 - 1/K) of K classes. As in all label noise here the shares are exact, of each
    class and up to rounding, where the paper tosses a coin for each image.
    """
    if not 0 <= p <= 1:
        raise UserError(f"p must lie within 0 and 1, got {p:g}")
    anew = torch.full((classes, classes), 1 / classes, dtype=torch.double)
    return flipped(labels, (1 - p) * torch.eye(classes, dtype=torch.double) + p * anew, seed)


def pixel_permutation(shape: tuple[int, int, int], seed: int) -> Tensor:
    """Draw one order of the pixels, as the order (D,) of all D values of an image of ``shape``: shuffled pixels."""
    channels, height, width = shape
    order = torch.randperm(height * width, generator=torch.Generator().manual_seed(seed % 2**63))
    return (order + height * width * torch.arange(channels)[:, None]).flatten()


def random_pixels(images: Tensor, seed: int) -> Tensor:
    """Return the images with their pixels in random order, another one in each image."""
    generator = np.random.default_rng(seed)
    places = np.arange(images[0, 0].numel())
    moved = torch.empty_like(images, memory_format=torch.contiguous_format)
    for part, to in zip(images.split(_CHUNK), moved.split(_CHUNK), strict=True):
        orders = generator.permuted(np.broadcast_to(places, (len(part), len(places))), axis=1)
        index = torch.from_numpy(orders).to(images.device)[:, None, :].expand(-1, images.shape[1], -1)
        to.copy_(part.flatten(2).gather(2, index).view(part.shape))
    return moved


def gaussian_images(count: int, like: Tensor, seed: int) -> Tensor:
    """Draw ``count`` images of independent Gaussian values, with the mean and variance of each channel of ``like``.

    The paper says mean and variance of the data set; per channel is the reading of its reproductions.
    """
    variance, mean = torch.var_mean(like, dim=(0, 2, 3), keepdim=True)
    generator = torch.Generator().manual_seed(seed % 2**63)  # the CPU's, so that all devices see the same draws
    drawn = torch.empty(count, *like.shape[1:]).normal_(generator=generator).to(like.device)
    return drawn.mul_(variance.sqrt()).add_(mean)


def cropped(images: Tensor, size: int = 28) -> Tensor:
    """Return the middle of the images, at most ``size`` × ``size`` pixels; a view."""
    for axis in (2, 3):
        length = images.shape[axis]
        images = images.narrow(axis, max(0, length - size) // 2, min(length, size))
    return images


def whitened(images: Tensor) -> Tensor:
    """Return (x - mean) / max(std, 1/√D) of each image, over all its D values (Zhang et al. 2017, appendix A)."""
    flat = images.flatten(1)
    spread = flat.std(1, unbiased=False, keepdim=True).clamp(min=flat.shape[1] ** -0.5)
    return ((flat - flat.mean(1, keepdim=True)) / spread).view(images.shape)


def digest(tensor: Tensor) -> str:
    """Return sixteen hexadecimal digits over every value of a tensor, in order."""
    return hashlib.sha256(tensor.cpu().contiguous().numpy().data).hexdigest()[:16]
