"""Residual networks for small images: basic blocks behind a 3×3 stem."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import relu

# Xie et al. 2021, appendix C.1 and their notebook: no momentum, and lr 1.
PAPER = {"epochs": 300, "optimizer": "sgd", "lr": 1.0, "weight_decay": 1e-4}
RECIPES = {"classification": PAPER}


class Block(nn.Module):
    """Two 3×3 convolutions with batch normalisation around a shortcut, (n, inputs, h, w) → (n, outputs, h/s, w/s).

    The shortcut is the identity where the shape stays, else a 1×1 convolution with batch normalisation: option B of He
    et al. 2016.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's features (n, outputs, h/s, w/s)."""
        return relu(self.residual(x) + self.shortcut(x))


class ResNet(nn.Module):
    """One stage of basic blocks per number in ``blocks``, then the mean over all positions and one linear layer.

    Images are (n, channels, height, width) as in ``shape``, at least 8×8; logits are (n, classes). Stage i has
    ``width``·2^i channels, and all stages but the first halve height and width. The stem is a 3×3 convolution of stride
    1 without pooling, as for CIFAR in the networks of Xie et al. 2021, table 1; He et al. 2016 have it for ImageNet.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, *, blocks: Sequence[int], width: int = 64) -> None:
        super().__init__()
        channels, rows, columns = shape
        if min(rows, columns) < 8:
            raise ValueError(f"a ResNet needs images of at least 8x8 pixels, got {rows}x{columns}")
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        layers: list[nn.Module] = [
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        inputs = width
        for stage, count in enumerate(blocks):
            outputs = width * 2**stage
            for place in range(count):
                layers.append(Block(inputs, outputs, stride=2 if stage and not place else 1))
                inputs = outputs
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, classes)."""
        logits: Tensor = self.classifier(self.features(x))
        return logits
