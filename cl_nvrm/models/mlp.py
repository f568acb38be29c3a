"""Fully connected ReLU network with one or several output layers."""

from itertools import pairwise
from math import prod

from torch import Tensor, nn

from cl_nvrm.models.heads import through


class MLP(nn.Module):
    """``depth`` hidden layers of ``width`` ReLUs, then one linear output layer a head.

    Inputs of any shape (n, …) are flattened. With several heads, ``task`` says which head each sample goes through: one
    number for all, or a tensor (n,). Logits are (n, classes). This is the network of Xie et al. 2021, experiment 4, at
    width 1024 and depth 2.
    """

    def __init__(self, inputs: int, classes: int, *, width: int = 1024, depth: int = 2, heads: int = 1) -> None:
        super().__init__()
        sizes = [inputs] + [width] * depth
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        self.trunk = nn.Sequential(*layers)
        self.classes = classes
        self.heads = nn.ModuleList(nn.Linear(sizes[-1], classes) for _ in range(heads))

    def forward(self, x: Tensor, task: Tensor | int = 0) -> Tensor:
        """Return the logits (n, classes)."""
        return through(self.heads, self.trunk(x), task if len(self.heads) > 1 else 0)


def model(shape: tuple[int, int, int], classes: int, *, width: int = 1024, depth: int = 2) -> MLP:
    """Build an MLP for images of ``shape`` (channels, height, width)."""
    if width < 1 or depth < 0:
        raise ValueError(f"width must be at least 1 and depth at least 0, got {width}, {depth}")
    return MLP(prod(shape), classes, width=width, depth=depth)
