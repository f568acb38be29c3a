"""VGG-16 for small images, with batch normalisation after each convolution."""

from typing import Literal

from torch import nn

# The momentum and the learning rate are ours (Xie et al. 2021, appendix C.1, whose text lost them): 0.9 with a tenth of
# their other networks' rate, the same step in the long run.
RECIPES = {"classification": {"epochs": 300, "lr": 0.1, "weight_decay": 1e-4}}
STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, convolutions; each stage ends in a max pool


def model(
    shape: tuple[int, int, int], classes: int, *, classifier: Literal["paper", "single"] = "paper"
) -> nn.Sequential:
    """Build it: 13 convolutions, then linear layers; images are at least 32×32, logits (n, classes).

    ``classifier`` is "paper" for the two hidden layers of 512 ReLUs in Xie et al. 2021, table 1, or "single" for none,
    as in the code they published. The table does not say how many convolutions have 256 channels, which here are the 3
    of Simonyan and Zisserman 2015, nor does it mention batch normalisation, which the code has. What is left of larger
    images after five poolings is averaged.
    """
    inputs, rows, columns = shape
    if min(rows, columns) < 32:
        raise ValueError(f"VGG-16 needs images of at least 32x32 pixels, got {rows}x{columns}")
    if classifier not in ("paper", "single"):
        raise ValueError(f"classifier must be one of paper, single, got {classifier!r}")
    layers: list[nn.Module] = []
    for outputs, count in STAGES:
        for _ in range(count):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if classifier == "paper":
        layers += [nn.Linear(inputs, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(inputs, classes))
