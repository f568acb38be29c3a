"""Xie et al. 2021: ResNet-34 on CIFAR-10 with 40 % asymmetric label noise, by SGD and by NVRM. Wants a GPU.

Source: "Artificial neural variability for deep learning: on overfitting, noise memorization, and catastrophic
forgetting", Neural Computation 2021; the numbers are read off the authors' figure, after 300 epochs.

As published: labels flipped to the next class; lr 1, no momentum, times 0.1 every 100 epochs, batch 128, weight decay
1e-4, crops and mirrored images; variability 0.05. The band of trials in the figure reaches from 59.1 to 59.7 and from
88.8 to 89.7; of what kind it is, the figure does not say, so that there is no deviation here.

Differs here: computed in bfloat16.
"""

from cl_nvrm.reproduce.definition import Ordering, Row, Target

TARGET = Target(
    about="NVRM against SGD with 40 % label noise (a GPU)",
    source="Xie et al. 2021, read off the authors' figure",
    runs=1,
    spread="sd",
    data="cifar10",
    common="--benchmark noisy-cifar10:rate=0.4,noise=pairflip,model=resnet34 --precision bfloat16 --channels-last",
    rows=[
        Row("SGD", 59.4, None, "--strategy naive", note="in bfloat16"),
        Row("NVRM", 89.3, None, "--strategy nvrm:variability=0.05", note="in bfloat16"),
    ],
    orderings=[Ordering("NVRM", "SGD")],
)
