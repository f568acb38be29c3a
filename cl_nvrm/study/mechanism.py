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
}
