"""All-convolutional ELU network whose logits are convex in the input, small enough to train on a CPU.

After the IOC-AllConv of Sivaprasad et al. 2021. Springenberg et al., "Striving for simplicity: the all convolutional
net", ICLR 2015 workshop, have strides in place of pooling, 1×1 convolutions in place of hidden layers and the mean over
all positions at the end; nine layers of up to 192 channels there, five here.
"""

from torch import nn

from cl_nvrm.models.ioc import RECIPES, InputOutputConvex

__all__ = ["RECIPES", "model"]


def model(
    shape: tuple[int, int, int], classes: int, *, width: int = 32, batch_norm: bool = True, convex: bool = True
) -> nn.Module:
    """Build it for images of at least 8×8; logits are (n, classes).

    3×3 convolutions of ``width``, 2 ``width`` and 2 ``width`` channels, the first two of stride 2, then 1×1 ones of 2
    ``width`` and ``classes``; ELU, behind batch normalisation if ``batch_norm``, after all but the last.
    ``convex=False`` leaves the constraint away and nothing else: the network to compare with. At the defaults, a
    3×32×32 image and 10 classes take 4.1 million multiply-adds and 61,354 weights.
    """
    inputs, rows, columns = shape
    if min(rows, columns) < 8:
        raise ValueError(f"ioc-cnn needs images of at least 8x8 pixels, got {rows}x{columns}")
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
    layers: list[nn.Module] = []
    for outputs, size, stride in ((width, 3, 2), (2 * width, 3, 2), (2 * width, 3, 1), (2 * width, 1, 1)):
        layers.append(nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=not batch_norm))
        layers += [nn.BatchNorm2d(outputs), nn.ELU()] if batch_norm else [nn.ELU()]
        inputs = outputs
    layers += [nn.Conv2d(inputs, classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return InputOutputConvex(*layers) if convex else nn.Sequential(*layers)
