"""Neuron steadiness regularisation (Mao et al. 2022) on MNIST: what each study trains.

The published setting as far as it is known: plain SGD at lr 0.01, batches of 100, 100 epochs, 50,000 images to train on
and 10,000 for validation, Xavier weights, zero biases, and the λ of each depth. Images are standardised, there they are
within 0 and 1. Of the other regularisers all strengths tried are shown; published is which, not how they were chosen.
"""

from cl_nvrm.study.definitions import Part, Study, part

WIDTHS = {3: "100", 4: "256-100", 6: "256-128-64-32", 8: "256-128-64-32-32-16", 10: "256-128-64-64-32-32-16-16"}
LAMBDAS = {3: 0.02475, 4: 7.4865, 6: 0.0538, 8: 0.2542, 10: 0.4158}  # the published ones
_RECIPE = "--optimizer sgd --lr 0.01 --batch-size 100 --epochs 100 --schedule constant --data mnist"
_BOTH = ("nsr:lambda=0", f"nsr:lambda={LAMBDAS[4]}")  # the former is plain training, measured


def _mnist(depth: int, *strategies: str, network: str = "", more: str = "", trials: int = 3) -> Part:
    """A part with an MLP of so many layers, the input one of them; ``network`` adds settings of it."""
    model = f"regularised-mlp(widths={WIDTHS[depth]},init=xavier{network})"
    words = f"--benchmark random-labels:p=0,validation=10000,model={model} {_RECIPE} --trials {trials} {more}"
    return part(f"mlp-{depth}", words, *strategies)


def _digits(*strategies: str, more: str = "") -> Part:
    words = "--benchmark random-labels:p=0,subset=300,validation=100,model=regularised-mlp(widths=32-16) --data digits"
    return part("digits", f"{words} --epochs 3 --trials 2 {more}", *strategies)


_SMOKE = (_digits(*_BOTH),)
_STEADY = (_mnist(4, *_BOTH, trials=5),)
_REGULARISERS = (
    _mnist(4, *_BOTH, "l1:lambda=0.00001|0.0001", "jacobian:lambda=0.01"),
    *(_mnist(4, "naive", more=f"--weight-decay {decay}") for decay in (0.0001, 0.001)),
    _mnist(4, *_BOTH, network=",batch_norm=true"),
    _mnist(4, *_BOTH, network=",dropout=0.2"),
)
_DEPTHS = tuple(_mnist(depth, "nsr:lambda=0", f"nsr:lambda={strength}") for depth, strength in LAMBDAS.items())
_LAYERS = (_mnist(4, *_BOTH, *(f"{_BOTH[1]},layer={layer}" for layer in (2, 4))),)  # behind the ReLUs

STUDIES = {
    "steady-logits": Study(
        "Does a network generalise better whose logits answer alike to all samples of a class?",
        "figures.variances.curves",
        {"paper": _STEADY, "small": _STEADY, "smoke": _SMOKE},
    ),
    "regularisers": Study(
        "Do other regularisers do as well, and does steadiness add to them?",
        "figures.generalisation.methods",
        {"paper": _REGULARISERS, "small": _REGULARISERS, "smoke": _SMOKE},
    ),
    "depths": Study(
        "Is it so at every depth?",
        "figures.generalisation.methods",
        {"paper": _DEPTHS, "small": _DEPTHS, "smoke": _SMOKE},
    ),
    "layers": Study(
        "Does it matter which layer is steady?",
        "figures.generalisation.methods",
        {"paper": _LAYERS, "small": _LAYERS, "smoke": _SMOKE},
    ),
}
