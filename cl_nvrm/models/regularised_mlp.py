"""Fully connected ReLU network with the explicit regularisers others are compared with: dropout, batch normalisation.

``widths=256-100,init=xavier`` is the MLP-4 of Mao et al., NeurIPS 2022, whose count of layers includes the input; its
other depths are 100, 256-128-64-32, 256-128-64-32-32-16 and 256-128-64-64-32-32-16-16.
"""

from itertools import pairwise
from math import prod
from typing import Literal

from torch import nn


def model(
    shape: tuple[int, int, int],
    classes: int,
    *,
    widths: str = "256-100",
    dropout: float = 0.0,
    batch_norm: bool = False,
    init: Literal["torch", "xavier"] = "torch",
) -> nn.Module:
    """Build it for images of ``shape`` (channels, height, width); logits are (n, classes).

    ``widths`` are those of the hidden layers, from the input on. Each is followed by batch normalisation, if asked for,
    a ReLU and dropout with that probability (Srivastava et al., JMLR 2014). ``init=xavier`` draws weights from
    N(0, 2/(inputs + outputs)) and sets biases to 0 (Glorot and Bengio, AISTATS 2010); torch is torch's default. With
    torch's and no regulariser it is ``mlp``, weight for weight.
    """
    try:
        sizes = [int(width) for width in widths.split("-")]
    except ValueError as problem:
        raise ValueError(f"widths must be numbers joined by '-', such as 256-100, got '{widths}'") from problem
    if min(sizes) < 1:
        raise ValueError(f"widths must be at least 1, got '{widths}'")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must lie within 0 and 1 (exclusive), got {dropout:g}")
    sizes = [prod(shape), *sizes]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers.append(nn.Linear(inputs, outputs))
        layers += [nn.BatchNorm1d(outputs)] if batch_norm else []
        layers.append(nn.ReLU())
        layers += [nn.Dropout(dropout)] if dropout else []
    network = nn.Sequential(*layers, nn.Linear(sizes[-1], classes))
    if init == "xavier":
        for layer in network:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.zeros_(layer.bias)
    return network
