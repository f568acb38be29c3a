"""Mao et al. 2022: neuron steadiness on MNIST, five depths, against plain training.

Source: "Neuron with steady response leads to better generalization", NeurIPS 2022, arXiv 2111.15414; it has test
errors, of which these are the accuracies. The number of runs is not told where it was read; five are assumed.

As published: in the authors' code plain SGD at lr 0.01, batches of 100, 100 epochs, 50,000 images to train on and
10,000 for validation, tested where these are best, Xavier's normal weights and zero biases. Layers include the input.

Differs here: images are standardised, theirs lie within 0 and 1.
"""

from cl_nvrm.reproduce.definition import Ordering, Row, Target

# layers: hidden widths, λ, then test error and deviation of plain training and with steadiness
TABLE = {
    3: ("100", 0.02475, (3.09, 0.10), (2.80, 0.08)),
    4: ("256-100", 7.4865, (2.29, 0.07), (1.64, 0.04)),
    6: ("256-128-64-32", 0.0538, (2.44, 0.09), (1.76, 0.06)),
    8: ("256-128-64-32-32-16", 0.2542, (2.87, 0.09), (1.98, 0.09)),
    10: ("256-128-64-64-32-32-16-16", 0.4158, (3.06, 0.06), (1.72, 0.14)),
}

TARGET = Target(
    about="Neuron steadiness on MNIST, MLPs of five depths",
    source="Mao et al. 2022, arXiv 2111.15414",
    runs=5,
    spread="sd",
    data="mnist",
    common="--optimizer sgd --lr 0.01 --batch-size 100 --epochs 100 --schedule constant",
    rows=[
        Row(
            f"MLP-{layers}{name}",
            round(100 - error, 2),
            deviation,
            f"--benchmark random-labels:p=0,validation=10000,model=regularised-mlp(widths={widths},init=xavier) "
            f"--strategy {strategy}",
            score="validated accuracy",
            note="images standardised",
        )
        for layers, (widths, strength, plain, steady) in TABLE.items()
        for name, (error, deviation), strategy in (("", plain, "naive"), (" + NSR", steady, f"nsr:lambda={strength}"))
    ],
    orderings=[Ordering(f"MLP-{layers} + NSR", f"MLP-{layers}") for layers in TABLE],
)
