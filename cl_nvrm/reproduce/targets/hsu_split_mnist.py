"""Hsu et al. 2018: Split MNIST in three scenarios, ten methods, with the strengths of the authors' scripts.

Source: "Re-evaluating continual learning scenarios: a categorization and case for strong baselines", arXiv 1810.12488;
the table is fig/results_split_mnist.png of the authors' repository, GT-RIPL/Continual-Learning-Benchmark, and the
settings are those of its scripts and code.

As published: MLP 400-400, images in a black frame of 32 x 32 pixels, standardised with it; 4 epochs a task, batch 128,
Adam 1e-3 whose state lives through all tasks, digits in order; the mean over tasks at the end. Penalties have no ½, so
their λ for EWC is half of ours. Fisher information: all images, the label that the network predicts. SI: importances
are not clamped. MAS: of mini-batches, and of the mean over outputs. Rehearsal: the memory, repeated to the size of the
task, is shuffled among its images. Offline: all tasks at once, as many steps.

Differs here: heads of other tasks are frozen, where the authors leave them to Adam's momentum. The row of LwF was
copied by the authors from van de Ven and Tolias 2018, so that it has the settings of ``vandeven-split-mnist``, and what
stands behind ± is the standard error of 20 runs.

Changed after the first runs: LwF's loss was a sum over outputs, as usual, which gave 20.2 ± 0.2 (n = 5) in class-
incremental learning. The code of 2018 takes the mean over outputs (loss_fn_kd; 26f00db of May 2019 is its correction).
The sum is a row of its own now.
"""

from dataclasses import replace

from cl_nvrm.reproduce.definition import Ordering, Row, Target

BENCHMARK = "--benchmark split-mnist:width=400,depth=2,fresh_optimizer=false,scenario={scenario}"
FRAMED = BENCHMARK + ",pad=32"
LWF = "--strategy lwf:alpha=4,weights=tasks,softmax=all,outputs={} --iterations 2000"
EWC = "--strategy ewc:fisher=predicted,samples=0,lambda={}"

# method: mean and deviation in task-, domain- and class-incremental learning, and the words for each of them
TABLE = {
    "Adam": ((93.46, 2.01), (55.16, 1.38), (19.71, 0.08), ("--strategy naive",) * 3),
    "L2": (
        (98.18, 0.96),
        (66.00, 3.73),
        (22.52, 1.08),
        [f"--strategy l2-anchor:strength={s}" for s in (0.01, 0.5, 100)],
    ),
    "EWC": ((97.70, 0.81), (58.85, 2.59), (19.80, 0.05), [EWC.format(2 * s) for s in (100, 100, 600)]),
    "Online EWC": (
        (98.04, 1.10),
        (57.33, 1.44),
        (19.77, 0.04),
        [EWC.format(2 * s) + ",mode=online" for s in (400, 700, 100)],
    ),
    "SI": (
        (98.56, 0.49),
        (64.76, 3.09),
        (19.67, 0.09),
        [f"--strategy si:xi=0.1,clamp=none,c={s}" for s in (300, 3000, 600)],
    ),
    "MAS": (
        (99.22, 0.21),
        (68.57, 6.85),
        (19.52, 0.29),
        [f"--strategy mas:samples=0,of=batches,outputs=mean,lambda={s}" for s in (1, 10000, 1)],
    ),
    "LwF": ((99.60, 0.03), (71.02, 1.26), (24.17, 0.33), (LWF.format("mean"),) * 3),
    "Rehearsal 1100": (
        (99.40, 0.08),
        (95.16, 0.49),
        (90.78, 0.85),
        ("--strategy replay:memory=1100,mix=concatenated",) * 3,
    ),
    "Rehearsal 4400": (
        (99.57, 0.07),
        (97.11, 0.34),
        (95.59, 0.49),
        ("--strategy replay:memory=4400,mix=concatenated",) * 3,
    ),
    "Offline": ((99.52, 0.16), (98.59, 0.15), (97.53, 0.30), ("--strategy joint",) * 3),
}
COPIED_RUNS = 20
COPIED = (
    "the authors copied the number from van de Ven and Tolias 2018, so our runs have that paper's settings; its ± is a "
    "standard error of 20 runs, here times √20"
)
MORE = "more seeds were made where five did not tell"
# Runs of ours: as many as were published where five turned out too few to tell, or differed. The ten of "L2, class"
# differed (23.8 ± 0.7), though the authors' own code, given the same first weights and batches, ends within 0.1 points
# of ours (seed 0, every task); so the same number was made again on fresh seeds.
SEEDS = {
    **{f"{name}, task": 10 for name in ("Adam", "EWC")},
    **{f"{name}, domain": 10 for name in ("EWC", "Online EWC", "Rehearsal 1100")},
    "Offline, class": 10,
    "L2, class": 20,
    **{f"LwF, {name}": 10 for name in ("domain", "class")},
}
REGULARISERS = ("Adam", "L2", "EWC", "Online EWC", "SI", "MAS")


def _rows() -> list[Row]:
    rows = []
    for place, scenario in enumerate(("task", "domain", "class")):
        for method, (*published, words) in TABLE.items():
            mean, deviation = published[place]
            lwf = method == "LwF"
            setting = f"{BENCHMARK},normalise=none,order=seed" if lwf else f"{FRAMED} --epochs 4"
            rows.append(
                Row(
                    f"{method}, {scenario}",
                    mean,
                    deviation * COPIED_RUNS**0.5 if lwf else deviation,
                    f"{setting.format(scenario=scenario)} {words[place]}",
                    seeds=SEEDS.get(f"{method}, {scenario}", 5),
                    runs=COPIED_RUNS if lwf else 0,
                    quick=method in ("Adam", "SI") and scenario != "domain",
                    note=COPIED if lwf else MORE if f"{method}, {scenario}" in SEEDS else "",
                )
            )
            if method == "LwF":
                rows.append(
                    replace(
                        rows[-1],
                        name=f"LwF summed, {scenario}",
                        words=f"{setting.format(scenario=scenario)} {LWF.format('sum')}",
                        seeds=5,
                        explains=rows[-1].name,
                        note="the loss as a sum over outputs",
                    )
                )
    return rows


TARGET = Target(
    about="Split MNIST in three scenarios, ten methods",
    source="Hsu et al. 2018, arXiv 1810.12488",
    runs=10,
    spread="sd",
    data="mnist",
    common="--batch-size 128 --optimizer adam --lr 0.001",
    rows=_rows(),
    orderings=[
        *(Ordering(f"{name}, task", "Adam, task") for name in ("L2", "EWC", "Online EWC", "SI", "MAS")),
        *(Ordering(f"{name}, domain", "Adam, domain") for name in ("L2", "SI", "MAS")),
        *(Ordering(f"{name}, domain", "EWC, domain") for name in ("L2", "SI", "MAS")),
        *(Ordering(f"Rehearsal 1100, {s}", f"{name}, {s}") for s in ("domain", "class") for name in REGULARISERS),
        *(Ordering(f"Rehearsal 4400, {s}", f"Rehearsal 1100, {s}") for s in ("domain", "class")),
        *(Ordering(f"Offline, {s}", f"Rehearsal 4400, {s}") for s in ("domain", "class")),
        *(Ordering(f"{name}, class", "Adam, class", equal=True) for name in ("EWC", "Online EWC", "SI", "MAS")),
    ],
)
