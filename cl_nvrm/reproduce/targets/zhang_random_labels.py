"""Zhang et al. 2017: networks fit random labels, and generalise without explicit regularisers. Train and test accuracy.

Source: "Understanding deep learning requires rethinking generalization", ICLR 2017, arXiv 1611.03530, table 1: one run
each, on CIFAR-10.

As published: the middle 28 x 28 pixels, each image standardised by itself; SGD with momentum 0.9, lr 0.01 (0.1 for
Inception) times 0.95 an epoch. Nothing is said of batch size, number of epochs and strength of weight decay.

Differs here: batch 128, 60 epochs and weight decay 5e-4 are ours. Rows with random crops, and those of Inception
without batch normalisation, are left out. All but the MLPs want a GPU.
"""

from cl_nvrm.reproduce.definition import Ordering, Row, Target

DECAY = "weight decay 5e-4 is ours"

# network: its words; training: the words, train and test accuracy
TABLE = {
    "MLP 3x512": (
        "mlp(width=512,depth=3)",
        {"weight decay": (100.0, 53.35), "plain": (100.0, 52.39), "random labels": (100.0, 10.48)},
    ),
    "MLP 1x512": (
        "mlp(width=512,depth=1)",
        {"weight decay": (99.80, 50.39), "plain": (100.0, 50.51), "random labels": (99.34, 10.61)},
    ),
    "AlexNet": (
        "small-alexnet",
        {"weight decay": (100.0, 77.36), "plain": (100.0, 76.07), "random labels": (99.82, 9.86)},
    ),
    "Inception": (
        "small-inception",
        {"weight decay": (100.0, 86.03), "plain": (100.0, 85.75), "random labels": (100.0, 9.78)},
    ),
}


def _rows() -> list[Row]:
    rows = []
    for network, (model, trainings) in TABLE.items():
        for training, numbers in trainings.items():
            share = 1 if training == "random labels" else 0
            words = f"--benchmark random-labels:p={share},whitening=true,model={model} --strategy naive"
            decay = training == "weight decay"
            rows += [
                Row(
                    f"{network}, {training}, {part}",
                    number,
                    None,
                    f"{words} --weight-decay 5e-4" if decay else words,
                    score="training accuracy" if part == "train" else "final accuracy",
                    note=DECAY if decay else "",
                )
                for part, number in zip(("train", "test"), numbers, strict=True)
            ]
    return rows


TARGET = Target(
    about="Random labels on CIFAR-10, train and test (MLPs on a CPU, others on a GPU)",
    source="Zhang et al. 2017, arXiv 1611.03530",
    runs=1,
    spread="sd",
    data="cifar10",
    common="--epochs 60 --batch-size 128 --schedule exponential:final=0.046",
    rows=_rows(),
    orderings=[
        *(Ordering(f"{name}, plain, test", f"{name}, random labels, test") for name in TABLE),
        Ordering("AlexNet, plain, test", "MLP 3x512, plain, test"),
        Ordering("Inception, plain, test", "AlexNet, plain, test"),
    ],
)
