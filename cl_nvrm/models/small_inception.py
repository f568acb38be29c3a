"""The small Inception of randomisation tests: 1×1 beside 3×3 convolutions (Zhang et al. 2017, appendix A)."""

import torch
from torch import Tensor, nn

RECIPES = {"randomisation": {"lr": 0.1}}  # appendix A
# Two numbers: an Inception module with so many 1×1 and 3×3 channels; one: a downsampling module that adds so many.
MODULES = ((32, 32), (32, 48), (80,), (112, 48), (96, 64), (80, 80), (48, 96), (96,), (176, 160), (176, 160))


class Beside(nn.Module):
    """Two modules on the same features, their channels one after the other."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        """Return the channels (n, first + second, h, w)."""
        return torch.cat([self.first(x), self.second(x)], dim=1)


def model(shape: tuple[int, int, int], classes: int, *, batch_norm: bool = True) -> nn.Sequential:
    """Build it for images of at least 8×8; logits are (n, classes).

    A 3×3 convolution of 96 channels, the modules, and the mean over all positions (7×7 of 28×28 pixels). Downsampling
    is a 3×3 convolution beside a 3×3 max pool, both of stride 2. Each convolution has a bias and, with ``batch_norm``,
    batch normalisation before its ReLU. At 3×28×28 and 10 classes it has the published 1,649,402 weights, scales and
    shifts of the batch normalisation not counted.
    """
    channels, rows, columns = shape
    if min(rows, columns) < 8:
        raise ValueError(f"small-inception needs images of at least 8x8 pixels, got {rows}x{columns}")

    def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
        kernel = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2)
        return nn.Sequential(kernel, *[nn.BatchNorm2d(outputs)] * batch_norm, nn.ReLU())

    layers: list[nn.Module] = [convolution(channels, 96, 3)]
    inputs = 96
    for narrow, *wide in MODULES:
        if wide:
            layers.append(Beside(convolution(inputs, narrow, 1), convolution(inputs, wide[0], 3)))
            inputs = narrow + wide[0]
        else:
            layers.append(Beside(convolution(inputs, narrow, 3, 2), nn.MaxPool2d(3, stride=2, padding=1)))
            inputs += narrow
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))
