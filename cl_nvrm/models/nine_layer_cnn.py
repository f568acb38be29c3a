"""Nine convolutions with batch normalisation and dropout: the network of Co-teaching (Han et al., NeurIPS 2018)."""

from torch import nn


def model(shape: tuple[int, int, int], classes: int, *, width: int = 128) -> nn.Sequential:
    """Build it for images of at least 28×28; logits are (n, classes).

    Three 3×3 convolutions of ``width`` channels, three of 2 ``width``, then unpadded ones of 4, 2 and 1 ``width``, each
    with batch normalisation and a leaky ReLU of slope 0.01; behind each of the first two blocks the largest of 2×2 and
    dropout of a quarter of the channels; the mean over all positions and one linear layer.
    """
    channels, rows, columns = shape
    if min(rows, columns) < 28:
        raise ValueError(f"nine-layer-cnn needs images of at least 28x28 pixels, got {rows}x{columns}")
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
    layers: list[nn.Module] = []
    inputs = channels
    for padding, factors in ((1, (1, 1, 1)), (1, (2, 2, 2)), (0, (4, 2, 1))):
        for factor in factors:
            outputs = factor * width
            layers += [nn.Conv2d(inputs, outputs, 3, padding=padding), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.01)]
            inputs = outputs
        layers += [nn.MaxPool2d(2), nn.Dropout2d(0.25)] if padding else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(width, classes))
