"""Fully connected ELU network whose logits are convex in the input, the IOC-MLP of Sivaprasad et al. 2021."""

from itertools import pairwise
from math import prod

from torch import nn

from cl_nvrm.models.ioc import RECIPES, InputOutputConvex

__all__ = ["RECIPES", "model"]


def model(
    shape: tuple[int, int, int],
    classes: int,
    *,
    width: int = 800,
    depth: int = 3,
    batch_norm: bool = True,
    convex: bool = True,
) -> nn.Module:
    """Build it for images of ``shape`` (channels, height, width); logits are (n, classes).

    ``depth`` hidden layers of ``width`` ELUs, each behind batch normalisation if ``batch_norm``, then a linear layer.
    ``convex=False`` leaves the constraint away and nothing else: the network to compare with.
    """
    if width < 1 or depth < 0:
        raise ValueError(f"width must be at least 1 and depth at least 0, got {width}, {depth}")
    sizes = [prod(shape)] + [width] * depth
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers.append(nn.Linear(inputs, outputs, bias=not batch_norm))
        layers += [nn.BatchNorm1d(outputs), nn.ELU()] if batch_norm else [nn.ELU()]
    layers.append(nn.Linear(sizes[-1], classes))
    return InputOutputConvex(*layers) if convex else nn.Sequential(*layers)
