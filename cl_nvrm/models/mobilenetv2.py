"""MobileNetV2 for small images: inverted residuals around depthwise convolutions."""

from torch import Tensor, nn

# The momentum and the learning rate are ours (Xie et al. 2021, appendix C.1, whose text lost them): 0.9 with a tenth of
# their other networks' rate, the same step in the long run.
RECIPES = {"classification": {"epochs": 300, "lr": 0.1, "weight_decay": 1e-4}}
# expansion, channels, blocks, stride of the first block
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """Expand, convolve each channel by itself, project without ReLU, (n, inputs, h, w) → (n, outputs, h/s, w/s).

    At stride 1 the input is added, through a 1×1 convolution with batch normalisation where the channels change.
    """

    def __init__(self, inputs: int, outputs: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        inner = expansion * inputs
        self.residual = nn.Sequential(
            *_convolution(inputs, inner, 1),
            nn.ReLU(),
            *_convolution(inner, inner, 3, stride=stride, groups=inner),
            nn.ReLU(),
            *_convolution(inner, outputs, 1),
        )
        self.shortcut: nn.Module | None = None
        if stride == 1:
            self.shortcut = nn.Sequential(*_convolution(inputs, outputs, 1) if inputs != outputs else ())

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features (n, outputs, h/s, w/s)."""
        out: Tensor = self.residual(x)
        return out if self.shortcut is None else out + self.shortcut(x)


def model(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Build it for images of at least 8×8; logits are (n, classes).

    This is table 1 of Xie et al. 2021 in the version usual for CIFAR. Against Sandler et al. 2018 it halves the image
    three times instead of five, has ReLU for ReLU6, expands also at factor 1, and adds shortcuts where the channels
    change. The table's "fc-32" and "fc-1280" are read as the 3×3 and the 1×1 convolution that Sandler et al. have
    there: a fully connected layer cannot come before the blocks.
    """
    channels, rows, columns = shape
    if min(rows, columns) < 8:
        raise ValueError(f"MobileNetV2 needs images of at least 8x8 pixels, got {rows}x{columns}")
    inputs = 32
    layers: list[nn.Module] = [*_convolution(channels, inputs, 3), nn.ReLU()]
    for expansion, outputs, count, stride in STAGES:
        for place in range(count):
            layers.append(InvertedResidual(inputs, outputs, expansion=expansion, stride=1 if place else stride))
            inputs = outputs
    layers += [*_convolution(inputs, 1280, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(1280, classes))


def _convolution(inputs: int, outputs: int, size: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    kernel = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)
    return [kernel, nn.BatchNorm2d(outputs)]
