"""What is forgotten, and what each method keeps against how well it still learns (Xie et al. 2021, experiment 4).

All on MNIST. The strengths of the first two were chosen beforehand on held-out images (their READMEs say how); the
frontiers are themselves on held-out images, with seeds of their own; the tuned ones are tested with what a search on
held-out images found.
"""

from cl_nvrm.study.definitions import Part, Study, part

_MNIST = "--data mnist --trials 10"
_PERMUTED = ("naive", "nvrm", "ewc:lambda=30", "ewc:lambda=30+nvrm", "ewc", "ewc+nvrm", "si")
_SPLIT = ("naive", "nvrm", "nvrm:variability=0.01", "ewc", "ewc:lambda=10000", "ewc:lambda=10000+nvrm", "si:c=1000")
_TUNED = ("naive", "nvrm", "ewc", "ewc+nvrm", "si", "si+nvrm")
# Network, images and recipe of Hsu et al. 2018; all outputs from the start, as experience replay of logits needs them.
_CLASSES = "split-mnist:scenario=class,outputs=all,width=400,pad=32,fresh_optimizer=false"
_BESIDE = ("naive", "ewc:lambda=1200,fisher=predicted,samples=0", "si:c=600,clamp=none", "mas", "lwf")
_MEMORY = ("replay:memory=1100", "er:memory=1100", "er-ace:memory=1100", "der:memory=1100", "derpp:memory=1100")
_SMOKE = "--data digits --trials 2 --benchmark"
_SMALL_PERMUTED = "permuted-mnist:subset=512,width=16,tasks=2"
_SMALL_SPLIT = "split-mnist:subset=1000,width=16"
_SOME = ("naive", "nvrm:variability=0.01|0.03")


def _grid(benchmark: str, lambdas: str, cs: str) -> Part:
    """Plain training, NVRM, EWC and SI, and the sums, over learning rates and strengths."""
    noise = "nvrm:variability=0.01"
    return part(
        "grid",
        f"{_MNIST} --benchmark {benchmark}:holdout=10000 --seed 100 --lr 1e-4|3e-4|1e-3",
        *("naive", "nvrm:variability=0.01|0.03"),
        *(f"ewc:lambda={lambdas}", f"ewc:lambda={lambdas}+{noise}", f"si:c={cs}", f"si:c={cs}+{noise}"),
    )


def _scales(small: Part, smoke: str, *strategies: str) -> dict[str, tuple[Part, ...]]:
    """The paper's own size is small enough."""
    return {"paper": (small,), "small": (small,), "smoke": (part("digits", f"{_SMOKE} {smoke}", *strategies),)}


STUDIES = {
    "forgetting-mnist": Study(
        "What is left of the first of five permuted tasks, at one recipe?",
        parts=_scales(part("mnist", _MNIST, *_PERMUTED), _SMALL_PERMUTED, "naive", "nvrm"),
        store="forgetting-mnist/runs",
    ),
    "forgetting-split-mnist": Study(
        "And of the first of five pairs of digits, each with a head of its own?",
        parts=_scales(part("mnist", f"--benchmark split-mnist {_MNIST}", *_SPLIT), _SMALL_SPLIT, "naive", "nvrm"),
        store="forgetting-split-mnist/runs",
    ),
    "class-incremental": Study(
        "Which methods keep ten digits apart that come in pairs?",
        parts=_scales(
            part(
                "mnist",
                f"--benchmark {_CLASSES} --data mnist --trials 3 --epochs 4 --batch-size 128",
                *(*_BESIDE, *_MEMORY, "cumulative", "joint"),
            ),
            f"{_SMALL_SPLIT},scenario=class",
            *("naive", "er", "joint"),
        ),
        store="class-incremental/runs",
        tables=True,
    ),
    "frontier-permuted": Study(
        "What does each method keep, against how well it learns, on permuted tasks?",
        parts=_scales(
            _grid("permuted-mnist", "30|100", "10|30"), _SMALL_PERMUTED, "naive", "nvrm:variability=0.01|0.03"
        ),
        store="frontier/permuted",
        tables=True,
    ),
    "frontier-split": Study(
        "And on pairs of digits?",
        parts=_scales(
            _grid("split-mnist", "1000|10000", "100|1000"), _SMALL_SPLIT, "naive", "nvrm:variability=0.01|0.03"
        ),
        store="frontier/split",
        tables=True,
    ),
    "tuned-permuted": Study(
        "With strengths and learning rates of all chosen by one search, on permuted tasks?",
        parts=_scales(
            part("mnist", f"{_MNIST} --benchmark permuted-mnist --tune 16", *_TUNED),
            f"{_SMALL_PERMUTED} --tune 2 --tune-tasks 1",
            *("naive", "nvrm"),
        ),
        store="frontier/tuned-permuted",
        tables=True,
    ),
    "tuned-split": Study(
        "And on pairs of digits?",
        parts=_scales(
            part("mnist", f"{_MNIST} --benchmark split-mnist --tune 16", *_TUNED),
            f"{_SMALL_SPLIT} --tune 2 --tune-tasks 1",
            *("naive", "nvrm"),
        ),
        store="frontier/tuned-split",
        tables=True,
    ),
}
