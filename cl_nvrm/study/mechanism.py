"""Is it the noise, or smaller steps? NVRM beside what else makes weights move less, or minima flatter.

Permuted MNIST, five tasks, tested on held-out training images with seeds of its own, so nothing of it is read off a
test image. All of it is exploratory: settings are neither chosen beforehand nor tested.
"""

from cl_nvrm.study.definitions import Part, Study, part

_MNIST = "--data mnist --benchmark permuted-mnist:holdout=10000 --seed 1200 --trials 10"
_SMOKE = "--data digits --benchmark permuted-mnist:subset=512,width=16,tasks=2,holdout=1000 --trials 2"
_LRS = "--lr 1e-4|3.2e-4|1e-3|3.2e-3"
_NOISY = (
    "nvrm:variability=0.003|0.01|0.03+landscape",
    "psgd:variability=0.0003|0.001|0.003+landscape",
    "label-noise:rate=0.1|0.3+landscape",
    "sam:rho=0.05|0.2+landscape",
)
_RECIPES = ("--weight-decay 1e-4", "--weight-decay 1e-3", "--schedule cosine", "--batch-size 64", "--batch-size 1024")


_SPLIT = "--data mnist --benchmark split-mnist:scenario={},holdout=10000 --seed 1300 --trials 10"
_SMALL = "--data digits --benchmark split-mnist:scenario={},subset=1000,width=16,holdout=1000 --trials 2"
_PENALTIES = "--data mnist --benchmark permuted-mnist:holdout=10000 --seed 1400 --trials 10"
_SCALES = "nvrm:variability=0.01|0.03"


def _run(words: str, smoke: str, *strategies: str) -> dict[str, tuple[Part, ...]]:
    whole = (part("mnist", words, *strategies),)
    return {"paper": whole, "small": whole, "smoke": (part("digits", smoke, *strategies[:2]),)}


def _in_scenario(scenario: str) -> Study:
    return Study(
        f"Does weight noise help in {scenario}-incremental learning of pairs of digits?",
        parts=_run(
            f"{_SPLIT.format(scenario)} --lr 1e-4|3.2e-4|1e-3",
            _SMALL.format(scenario),
            *("naive", "nvrm:variability=0.003|0.01|0.03"),
        ),
        store=f"mechanism/{scenario}",
        tables=True,
    )


def _parts(words: str, lrs: str) -> tuple[Part, ...]:
    """Plain training and other noises at the usual recipe, and plain training at others."""
    first = part("permuted", f"{words} {lrs}", "landscape", *_NOISY)
    return (first, *(part("permuted", f"{words} {lrs} {recipe}", "landscape") for recipe in _RECIPES))


STUDIES = {
    "noise-or-steps": Study(
        "Does weight noise keep old tasks because it is noise, or because weights move less?",
        "figures.mechanism.noise_or_steps",
        {
            "paper": _parts(_MNIST, _LRS),
            "small": _parts(_MNIST, _LRS),
            "smoke": (
                part("permuted", _SMOKE, "landscape", "nvrm+landscape"),
                part("permuted", f"{_SMOKE} --weight-decay 1e-3", "landscape"),
            ),
        },
    ),
    "noise-domain": _in_scenario("domain"),
    "noise-class": _in_scenario("class"),
    "penalty-at-clean": Study(
        "Beside a penalty, does it matter whether that is taken at the noisy weights or the clean ones?",
        parts=_run(
            _PENALTIES,
            _SMOKE,
            *(
                word
                for penalty in ("ewc", "si")
                for word in (penalty, f"{penalty}+{_SCALES}", f"{penalty}+{_SCALES},penalty_at=clean")
            ),
        ),
        store="mechanism/penalty",
        tables=True,
    ),
}
