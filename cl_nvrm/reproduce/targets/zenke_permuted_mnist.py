"""Zenke, Poole and Ganguli 2017: SI on Permuted MNIST, the mean accuracy after each of ten tasks at four strengths.

Source: "Continual learning through synaptic intelligence", ICML 2017, arXiv 1703.04200. The numbers are of the authors'
own data file, fig_permuted_mnist/data_path_int[…].pkl.gz of ganguli-lab/pathint, and the settings of the notebook
beside it. It is one run, tested on test images, with its whole matrix of accuracies: it checks mean accuracy, learning
accuracy and backward transfer alike.

As published: ten tasks, the first of them not permuted, pixels in [0, 1]; MLP 2000-2000; 20 epochs a task, batch 256,
Adam 1e-3 whose state lives through all tasks. SI: c without ½, ξ = 0.1, the path integral of the data's gradient, Ω
clamped at 0 as the running sum. A run takes some six hours on a core and minutes on a GPU; ``--cut 5`` asks for the
first five tasks and the numbers published of these.

Differs here: weights start as torch's do (uniform in ±1/√inputs, biases too), theirs as Keras' (Glorot's uniform,
biases 0). c = 0 is plain training.
"""

from cl_nvrm.reproduce.definition import Ordering, Row, Target

# c: the mean after each task, learning accuracy, backward transfer
TABLE = {
    "0": ((98.1, 94.9, 84.6, 80.8, 77.4, 72.9, 66.7, 66.8, 58.5, 57.41), 98.23, -45.4),
    "0.01": ((98.4, 96.5, 95.0, 95.8, 94.0, 94.1, 92.8, 93.3, 93.2, 92.00), 98.14, -6.8),
    "0.02": ((98.3, 97.9, 97.5, 97.2, 97.0, 96.3, 95.1, 94.8, 94.7, 93.91), 98.07, -4.6),
    "0.1": ((98.3, 98.3, 98.3, 98.0, 97.9, 97.8, 97.6, 97.5, 97.1, 96.94), 97.97, -1.1),
}


def _rows() -> list[Row]:
    rows = []
    for c, (means, learned, transfer) in TABLE.items():
        words = "--strategy naive" if c == "0" else f"--strategy si:c={c},xi=0.1,clamp=sum"
        scores = {f"mean after task {number}": mean for number, mean in enumerate(means, 1)}
        scores |= {"learning accuracy": learned, "backward transfer": transfer}
        rows += [Row(f"c = {c}, {score}", number, None, words, score=score) for score, number in scores.items()]
    return rows


LAST = "mean after task 10"

TARGET = Target(
    about="SI on Permuted MNIST, task by task (a GPU, or --cut 5)",
    source="Zenke et al. 2017, arXiv 1703.04200, the authors' data file",
    runs=1,
    spread="sd",
    data="mnist",
    common="--benchmark permuted-mnist:tasks=10,width=2000,depth=2,first=plain,normalise=none,fresh_optimizer=false "
    "--epochs 20 --batch-size 256 --optimizer adam --lr 0.001",
    rows=_rows(),
    orderings=[
        *(Ordering(f"c = {c}, {LAST}", f"c = {less}, {LAST}") for less, c in zip(TABLE, list(TABLE)[1:], strict=False)),
        Ordering("c = 0.1, mean after task 5", "c = 0, mean after task 5"),
    ],
)
