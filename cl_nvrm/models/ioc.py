"""Input-output-convex networks: every logit is a convex function of the input, whatever the training does.

Sivaprasad, Singh, Manwani and Gandhi, "The curious case of convex neural networks", ECML-PKDD 2021 (arXiv 2006.05103).
A sum with weights of at least 0 of convex functions is convex, and so is a convex, non-decreasing activation of it; the
first layer is affine in the input and free. After each step of the optimizer a weight w < 0 becomes exp(w - 5), at most
0.0067. That batch normalisation scales by no negative number follows from the same argument and is not in the paper's
formula.

The classes need not be convex sets: a difference of two logits can bend either way. With a single hidden layer the
constraint even costs nothing: one number added to a feature's weight in every logit leaves the softmax as it is.
"""

import torch
from torch import Tensor, nn

ADAM = {"optimizer": "adam", "lr": 1e-3}  # and a rate that falls, as the paper says
RECIPES = {"classification": ADAM, "randomisation": ADAM}
LAYERS = (nn.Flatten, nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.ELU, nn.AdaptiveAvgPool2d)


class InputOutputConvex(nn.Module):
    """Layers one after the other, whose outputs are convex in the inputs, in evaluation mode, between training steps.

    It is so from the start, and stays so if whoever trains it calls ``constrain`` after each step, as our Strategy
    does, after all noise that lasts. Under NVRM the noisy weights of a pass need not be convex, those at rest are. In
    training mode, batch normalisation divides by what it finds in the batch, so a single sample's output is not convex.
    ValueError for a layer that would not keep convexity, or is not known to.
    """

    def __init__(self, *layers: nn.Module) -> None:
        for layer in layers:
            if not isinstance(layer, LAYERS) or (isinstance(layer, nn.ELU) and not 0 <= layer.alpha <= 1):
                known = ", ".join(kind.__name__ for kind in LAYERS)
                raise ValueError(f"a convex network takes {known} (with an alpha within 0 and 1 for ELU), got {layer}")
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.constrain()

    def forward(self, x: Tensor) -> Tensor:
        """Return what the last layer makes of inputs (n, …)."""
        out: Tensor = self.layers(x)
        return out

    @torch.no_grad()
    def constrain(self) -> None:
        """Map each negative weight w but those of the first layer, and each negative scale, to exp(w - 5), in place.

        Biases are free. A second application changes nothing. It works weight by weight, so also on stacked trials.
        """
        for weight in self._constrained():
            weight.copy_(torch.where(weight < 0, (weight - 5).exp(), weight))

    def _constrained(self) -> list[Tensor]:
        layers = [m.weight for m in self.layers if isinstance(m, nn.Linear | nn.Conv2d)]
        scales = [m.weight for m in self.layers if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
        return [*layers[1:], *(scale for scale in scales if scale is not None)]
