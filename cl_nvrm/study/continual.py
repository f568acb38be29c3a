"""What is forgotten, and what each method keeps against how well it still learns (Xie et al. 2021, experiment 4).

All on MNIST. The strengths of the first two were chosen beforehand on held-out images (their READMEs say how); those of
the frontiers are chosen on held-out images and judged on test images, with fresh seeds; the tuned ones are tested with
what a search on held-out images found.

Primary contrast of each frontier, named before its runs: nvrm minus naive in accuracy kept, the mean of five levels of
plasticity, at least 30 seeds; differences below 1 point are of no interest.
"""

from collections.abc import Sequence

from cl_nvrm.study.definitions import Part, Study, part

Stages = tuple[Part, ...]
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
_SEARCHED = "--data mnist --seed 3000 --trials 30 --tune 16 --tune-seeds 2 --tune-searches 5"
_LRS = "1e-4|1.8e-4|3.2e-4|5.6e-4|1e-3|1.8e-3|3.2e-3"
_NOISES = "0.001|0.003|0.01|0.02|0.03|0.05"


def _stages(benchmark: str, data: str, lrs: str, scales: str, strengths: Sequence[str], seeds: Sequence[int]) -> Stages:
    """Plain training, NVRM, penalties and their sums with NVRM, over learning rates and strengths, in three stages.

    A screen of few seeds, a grid of those settings that come within 1.5 points of their frontier, and the settings of
    the grid's frontier on test images; no seed in two of them.
    """
    noise = f"nvrm:variability={scales}"
    strategies = ("naive", noise, *(word for penalty in strengths for word in (penalty, f"{penalty}+{noise}")))
    few, more, fresh = seeds
    held_out = f"--data {data} --benchmark {benchmark}{',' if ':' in benchmark else ':'}holdout="
    judged = (*f"--data {data} --benchmark {benchmark} --seed 2000 --trials {fresh} --frontier grid".split(),)
    return (
        part("screen", f"{held_out}10000 --seed 1000 --trials {few} --lr {lrs}", *strategies),
        part("grid", f"{held_out}10000 --seed 1100 --trials {more} --frontier screen --slack 1.5"),
        Part("fresh", (*judged, "--primary", "nvrm - naive", "--margin", "1")),
    )


def _frontier(benchmark: str, small: str, strengths: Sequence[str]) -> dict[str, Stages]:
    """Seven learning rates and seven scales of noise, 0 being plain training."""
    whole = _stages(benchmark, "mnist", _LRS, _NOISES, strengths, (2, 10, 30))
    smoke = _stages(small, "digits", "1e-3|3e-3", "0.01|0.03", [], (1, 1, 2))
    return {"paper": whole, "small": whole, "smoke": smoke}


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
        parts=_frontier("permuted-mnist", _SMALL_PERMUTED, ("ewc:lambda=30|100", "si:c=10|30")),
        store="frontier/permuted",
        tables=True,
    ),
    "frontier-split": Study(
        "And on pairs of digits?",
        parts=_frontier("split-mnist", _SMALL_SPLIT, ("ewc:lambda=1000|10000", "si:c=100|1000")),
        store="frontier/split",
        tables=True,
    ),
    "tuned-permuted": Study(
        "With strengths and learning rates of all chosen by one search, on permuted tasks?",
        parts=_scales(
            part("mnist", f"{_SEARCHED} --benchmark permuted-mnist", *_TUNED),
            f"{_SMALL_PERMUTED} --tune 2 --tune-tasks 1 --tune-seeds 1",
            *("naive", "nvrm"),
        ),
        store="frontier/searched-permuted",
        tables=True,
    ),
    "tuned-split": Study(
        "And on pairs of digits?",
        parts=_scales(
            part("mnist", f"{_SEARCHED} --benchmark split-mnist", *_TUNED),
            f"{_SMALL_SPLIT} --tune 2 --tune-tasks 1 --tune-seeds 1",
            *("naive", "nvrm"),
        ),
        store="frontier/searched-split",
        tables=True,
    ),
}
