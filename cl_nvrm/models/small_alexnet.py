"""The small AlexNet of randomisation tests: two convolutions, two hidden layers (Zhang et al. 2017, appendix A)."""

from torch import nn


def model(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Build it for images of at least 8×8; logits are (n, classes).

    Twice a 5×5 convolution of 64 channels, ReLU, a 3×3 max pool of stride 2 and local response normalisation, then 384
    and 192 ReLUs. At 3×28×28 and 10 classes it has the published 1,387,786 weights, which fixes the padding: the pools
    halve, rounding up. The constants of the normalisation, which they do not give, are those of Krizhevsky, Sutskever
    and Hinton 2012, section 3.3.
    """
    inputs, rows, columns = shape
    if min(rows, columns) < 8:
        raise ValueError(f"small-alexnet needs images of at least 8x8 pixels, got {rows}x{columns}")
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Conv2d(inputs, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)]
        # torch divides alpha by the number of channels in the sum
        layers.append(nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0))
        inputs, rows, columns = 64, (rows + 1) // 2, (columns + 1) // 2
    layers += [nn.Flatten(), nn.Linear(inputs * rows * columns, 384), nn.ReLU(), nn.Linear(384, 192), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(192, classes))
