"""Han et al. 2018: plain training on MNIST with noisy labels, the row "Standard" of the Co-teaching paper. Wants a GPU.

Source: "Co-teaching: robust training of deep neural networks with extremely noisy labels", NeurIPS 2018, arXiv
1804.06872, table 4: five runs, the mean test accuracy of the last ten epochs.

As published: a network of nine convolutions, Adam 1e-3, batch 128, 200 epochs, the learning rate constant for 80 of
them and then linear to 0; in the authors' code, bhanML/Co-teaching, images within 0 and 1. Symmetric noise never draws
the true label; pair noise draws the next one.

Differs here: from epoch 80 on theirs has Adam's β₁ at 0.1, ours at 0.9 throughout; their dropout acts on test images,
too, as the code calls it, and ours does not; images are standardised.
"""

from cl_nvrm.reproduce.definition import Ordering, Row, Target

TABLE = {
    "pair 45 %": ("pairflip", 0.45, 56.52, 0.55),
    "symmetric 50 %": ("symmetric", 0.5, 66.05, 0.61),
    "symmetric 20 %": ("symmetric", 0.2, 94.05, 0.16),
}

TARGET = Target(
    about="Plain training with label noise on MNIST (a GPU)",
    source="Han et al. 2018, arXiv 1804.06872",
    runs=5,
    spread="sd",
    data="mnist",
    common="--strategy naive --epochs 200 --batch-size 128 --optimizer adam --lr 0.001 --schedule linear:start=0.4",
    rows=[
        Row(
            f"Standard, {name}",
            mean,
            deviation,
            f"--benchmark noisy-mnist:rate={rate:g},noise={noise},model=nine-layer-cnn",
            score="last ten epochs",
            note="β₁ stays at 0.9; no dropout on test images; images standardised",
        )
        for name, (noise, rate, mean, deviation) in TABLE.items()
    ],
    orderings=[
        Ordering("Standard, symmetric 50 %", "Standard, pair 45 %"),
        Ordering("Standard, symmetric 20 %", "Standard, symmetric 50 %"),
    ],
)
