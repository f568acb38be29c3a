"""Van de Ven and Tolias 2018: Permuted MNIST, ten tasks, in three scenarios. An hour a run on a core; minutes on a GPU.

Source: arXiv 1809.10635v1, table 4; settings from its text and code, as for ``vandeven-split-mnist``.

As published: images in a black frame of 32 x 32 pixels, all 1,024 permuted, in every task; MLP 1000-1000; 5,000
iterations a task, batch 128, Adam 1e-4 whose state lives through all tasks; 20 seeds, mean ± standard error. Methods
are those of ``vandeven-split-mnist``.

Strengths: what the paper's search found is not printed, so they are the defaults that the authors' code has had since
2019 (f0b1461, param_values.py). Its online EWC puts the decay γ on the newest Fisher information, too, which here is λγ
in the place of λ.

Differs here: as in ``vandeven-split-mnist``.
"""

from cl_nvrm.reproduce.definition import Ordering, Row, Target

SCENARIOS = ("task", "domain", "class")
EWC = "ewc:fisher=predicted,samples=0,lambda={}"
ONLINE = ((500, 0.8), (1000, 0.9), (5, 1.0))  # λ and γ
LATER = "strength of the authors' code of 2019"

# method: mean and standard error in each scenario, the strategy there, and what to say of it
TABLE = {
    "None": (((81.79, 0.48), (78.51, 0.24), (17.26, 0.19)), ("naive",) * 3, ""),
    "EWC": (
        ((94.74, 0.05), (94.31, 0.11), (25.04, 0.50)),
        [EWC.format(strength) for strength in (500, 500, 1)],
        LATER,
    ),
    "Online EWC": (
        ((95.96, 0.06), (94.42, 0.13), (33.88, 0.49)),
        [f"{EWC.format(f'{strength * decay:g}')},mode=online,decay={decay:g}" for strength, decay in ONLINE],
        LATER,
    ),
    "SI": (
        ((94.75, 0.14), (95.33, 0.11), (29.31, 0.62)),
        [f"si:xi=0.1,clamp=none,c={c}" for c in (5, 5, 0.1)],
        LATER,
    ),
    "LwF": (
        ((69.84, 0.46), (72.64, 0.52), (22.64, 0.23)),
        ("lwf:alpha=4,temperature=2,weights=tasks,softmax=all,outputs=mean",) * 3,
        "",
    ),
    "Offline": (((97.68, 0.01), (97.59, 0.01), (97.59, 0.02)), ("cumulative",) * 3, ""),
}


def _rows() -> list[Row]:
    return [
        Row(
            f"{method}, {scenario}",
            mean,
            error,
            f"--benchmark permuted-mnist:tasks=10,width=1000,depth=2,pad=32,normalise=none,fresh_optimizer=false,"
            f"scenario={scenario} --strategy {strategies[place]}",
            note=note,
        )
        for place, scenario in enumerate(SCENARIOS)
        for method, (numbers, strategies, note) in TABLE.items()
        for mean, error in (numbers[place],)
    ]


TARGET = Target(
    about="Permuted MNIST in three scenarios (a GPU, or --seeds 1)",
    source="van de Ven and Tolias 2018, arXiv 1809.10635",
    runs=20,
    spread="sem",
    data="mnist",
    common="--iterations 5000 --batch-size 128 --optimizer adam --lr 0.0001",
    rows=_rows(),
    orderings=[
        *(Ordering(f"{name}, {s}", f"None, {s}") for s in SCENARIOS for name in ("EWC", "Online EWC", "SI")),
        *(Ordering(f"None, {scenario}", f"LwF, {scenario}") for scenario in ("task", "domain")),
        *(Ordering(f"Offline, {scenario}", f"Online EWC, {scenario}") for scenario in SCENARIOS),
    ],
)
