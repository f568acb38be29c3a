"""Foret et al. 2021: SGD and SAM on CIFAR-10 with noisy labels, ResNet-32. Wants a GPU.

Source: "Sharpness-aware minimization for efficiently improving generalization", ICLR 2021, arXiv 2010.01412, table 4;
no deviation is given. As published: ResNet-32, 200 epochs, noise at four rates, ρ = 0.1 (0.05 at 80 %).

Differs here: what else these runs were trained with has not been seen. Learning rate 0.1 along a cosine, momentum 0.9,
batch 128 and weight decay 5e-4 are ours, and so is noise that never draws the true label.
"""

from cl_nvrm.reproduce.definition import Ordering, Row, Target

# noise in %: accuracy by SGD and by SAM, and its ρ
TABLE = {20: (84.8, 95.1, 0.1), 40: (68.8, 93.4, 0.1), 60: (48.2, 90.5, 0.1), 80: (26.2, 77.9, 0.05)}

TARGET = Target(
    about="SAM against SGD with four rates of label noise (a GPU)",
    source="Foret et al. 2021, arXiv 2010.01412",
    runs=1,
    spread="sd",
    data="cifar10",
    common="--epochs 200 --batch-size 128 --optimizer sgd:momentum=0.9 --lr 0.1 --weight-decay 5e-4 --schedule cosine",
    rows=[
        Row(
            f"{name}, {rate} %",
            number,
            None,
            f"--benchmark noisy-cifar10:rate={rate / 100:g},noise=symmetric,model=resnet32 --strategy {strategy}",
            note="learning rate, batch and weight decay are ours",
        )
        for rate, (plain, flat, rho) in TABLE.items()
        for name, number, strategy in (("SGD", plain, "naive"), ("SAM", flat, f"sam:rho={rho}"))
    ],
    orderings=[Ordering(f"SAM, {rate} %", f"SGD, {rate} %") for rate in TABLE],
)
