"""Van de Ven and Tolias 2018: Split MNIST in three scenarios, and what a wider grid of λ made of EWC a year later.

Source: "Generative replay with feedback connections as a general strategy for continual learning", arXiv 1809.10635v1,
table 3; settings from its text and from the code of that time, GMvandeVen/continual-learning at 9c0ca78. The rows of
2019 are of "Three scenarios for continual learning", arXiv 1904.07734, as others quote them.

As published: MLP 400-400 on 784 pixels in [0, 1]; 2,000 iterations a task, batch 128, Adam 1e-3 whose state lives
through all tasks; digits shuffled by seed; 20 seeds, mean ± standard error. EWC: all images, the label that the network
predicts, ½λ. SI: damping 0.1, not clamped. LwF: T = 2, 1/N on the new task and 1 - 1/N on the old ones, times T² = 4,
the mean over outputs (loss_fn_kd; 26f00db of May 2019 makes it the sum). Offline: before each task a training set of
all tasks so far.

Strengths: the paper says how its grid was searched, not what came out. EWC and online EWC have λ = 5000, the code's
default of that year. Those of 2019, and SI's, are the defaults that the code has had since (f0b1461, param_values.py).

Differs here: SI's path integral is of the data's gradient alone, theirs of the whole loss; heads of other tasks are
frozen, where the authors leave them to Adam's momentum; theirs leave out the last, smaller batch of an epoch.
"""

from cl_nvrm.reproduce.definition import Ordering, Row, Target

SCENARIOS = ("task", "domain", "class")
EWC = "ewc:fisher=predicted,samples=0,lambda={}"
LWF = "lwf:alpha=4,temperature=2,weights=tasks,softmax=all,outputs=mean"
DEFAULT = "λ is not printed: the code's default of that year"
LATER = "strength of the authors' code of 2019"
QUOTED = "published in 2019, and quoted by others"

# method: mean and standard error in each scenario, the strategy there, and what to say of it
TABLE = {
    "None": (((85.15, 1.00), (57.33, 1.66), (19.90, 0.02)), ("naive",) * 3, ""),
    "EWC": (((85.48, 1.20), (57.80, 1.61), (19.90, 0.02)), (EWC.format(5000),) * 3, DEFAULT),
    "Online EWC": (
        ((85.22, 1.06), (57.60, 1.66), (19.90, None)),
        (EWC.format(5000) + ",mode=online,decay=1",) * 3,
        DEFAULT,
    ),
    "SI": (
        ((99.14, 0.11), (63.77, 1.18), (20.04, 0.08)),
        [f"si:xi=0.1,clamp=none,c={c}" for c in (50, 500, 0.5)],
        LATER,
    ),
    "LwF": (((99.60, 0.03), (71.02, 1.26), (24.17, 0.51)), (LWF,) * 3, ""),
    "Offline": (((99.64, 0.03), (98.41, 0.06), (97.93, 0.04)), ("cumulative",) * 3, ""),
    "None of 2019": (((87.19, 0.94), (59.21, 2.04), (19.90, 0.02)), ("naive",) * 3, QUOTED),
    "EWC of 2019": (
        ((98.64, 0.22), (63.95, 1.90), (20.01, 0.06)),
        [EWC.format(strength) for strength in ("1e7", "1e6", "1e8")],
        f"{QUOTED}; {LATER}",
    ),
}

# The first runs, three of LwF and Offline and five of the others, left these open; by their spread, this many would do.
MORE = "more seeds were made where the first did not tell"
SEEDS = {
    **{f"{method}, task": 12 for method in ("None", "EWC", "Online EWC", "None of 2019")},
    **{f"{method}, domain": 10 for method in ("None", "EWC", "Online EWC", "SI", "LwF", "None of 2019")},
    "LwF, class": 10,
}


def _rows() -> list[Row]:
    return [
        Row(
            f"{method}, {scenario}",
            mean,
            error,
            f"--benchmark split-mnist:width=400,depth=2,normalise=none,fresh_optimizer=false,order=seed,"
            f"scenario={scenario} --strategy {strategies[place]}",
            seeds=SEEDS.get(f"{method}, {scenario}", 5),
            quick=method == "SI" and scenario == "task",
            note="; ".join(filter(None, (note, MORE * (f"{method}, {scenario}" in SEEDS)))),
        )
        for place, scenario in enumerate(SCENARIOS)
        for method, (numbers, strategies, note) in TABLE.items()
        for mean, error in (numbers[place],)
    ]


TARGET = Target(
    about="Split MNIST in three scenarios, and EWC at two λ",
    source="van de Ven and Tolias 2018, arXiv 1809.10635, and 2019, arXiv 1904.07734",
    runs=20,
    spread="sem",
    data="mnist",
    common="--iterations 2000 --batch-size 128 --optimizer adam --lr 0.001",
    rows=_rows(),
    orderings=[
        *(Ordering(f"{name}, task", "None, task") for name in ("SI", "LwF", "EWC of 2019")),
        *(Ordering(f"{name}, domain", "None, domain") for name in ("SI", "LwF", "EWC of 2019")),
        *(Ordering(f"{name}, class", "None, class", equal=True) for name in ("EWC", "Online EWC", "SI", "EWC of 2019")),
        Ordering("EWC of 2019, task", "EWC, task"),
        Ordering("LwF, domain", "SI, domain"),
        Ordering("LwF, class", "None, class"),
        *(Ordering(f"Offline, {scenario}", f"LwF, {scenario}") for scenario in ("domain", "class")),
    ],
)
