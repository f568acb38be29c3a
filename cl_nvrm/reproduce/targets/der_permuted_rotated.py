"""Buzzega et al. 2020: 20 permutations and 20 rotations of MNIST, plain SGD and all tasks at once. A minute a run.

Source: "Dark experience for general continual learning: a strong, simple baseline", NeurIPS 2020, arXiv 2004.07211, as
others quote its table; settings from utils/best_args.py of aimagelab/mammoth, tag neurips2020. Of the table's other
rows no number has been seen, so they are not here.

As published: MLP 100-100, one epoch a task, batch 128, SGD at lr 0.2 without momentum; angles drawn in [0, 180)
degrees. How many runs are behind each mean is not told where it is quoted; five are assumed.

Where five seeds, or three, were too few to tell, ten and five were made.
"""

from cl_nvrm.reproduce.definition import Ordering, Row, Target

NETWORK = "tasks=20,width=100,depth=2,normalise=none,fresh_optimizer=false"
PERMUTED = f"--benchmark permuted-mnist:{NETWORK}"
ROTATED = f"--benchmark rotated-mnist:angles=random,{NETWORK}"
NO_SPREAD = "no deviation is quoted"
MORE = "more seeds were made where the first did not tell"
BOTH = f"{NO_SPREAD}; {MORE}"

TARGET = Target(
    about="Permuted and rotated MNIST, 20 tasks of one epoch",
    source="Buzzega et al. 2020, arXiv 2004.07211, quoted",
    runs=5,
    spread="sd",
    data="mnist",
    common="--epochs 1 --batch-size 128 --optimizer sgd --lr 0.2",
    rows=[
        Row("SGD, permuted", 40.70, 2.33, f"{PERMUTED} --strategy naive", seeds=10, quick=True, note=MORE),
        Row("Joint, permuted", 94.33, None, f"{PERMUTED} --strategy joint", quick=True, note=NO_SPREAD),
        Row("SGD, rotated", 67.66, 8.53, f"{ROTATED} --strategy naive", seeds=5, quick=True),
        Row("Joint, rotated", 95.76, None, f"{ROTATED} --strategy joint", seeds=5, quick=True, note=BOTH),
    ],
    orderings=[Ordering(f"Joint, {kind}", f"SGD, {kind}") for kind in ("permuted", "rotated")],
)
