"""Label noise and generalisation (Xie et al. 2021, experiments 1 to 3): what each study trains.

``paper`` is their recipe. Their text lost its rates, its scales of noise and its learning rates: those here are ours,
but for rate 0.4 and b = 0.05, which their notebook has.
"""

from cl_nvrm.study.definitions import Part, Study, part

PERTURBED = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12)  # scales of noise on trained weights
_SMOKE = "--benchmark noisy-mnist:subset=300,model=mlp(width=32,depth=1) --data digits --epochs 3 --trials 2"
_MNIST = "--benchmark noisy-mnist:subset=10000 --data mnist"
_CIFAR = "--benchmark noisy-cifar10:subset=10000,model=small-cnn,augment=false --data cifar10 --epochs 40"
_PAPER = "--data {data} --trials 10 --benchmark noisy-{data}:rate={rate},noise={noise}"
_RATES = {"pairflip": (0.1, 0.2, 0.3, 0.4), "symmetric": (0.2, 0.4, 0.6, 0.8)}
_PAPER_NOISY = "--benchmark noisy-cifar10 --data cifar10 --trials 10"
_CLEAN = "--benchmark clean-cifar10:subset=5000,model=small-cnn,augment=false --data cifar10 --epochs 30"
_LAWS = ("gaussian", "laplace", "uniform")
_NETWORKS = ("resnet34", "vgg16", "mobilenetv2")


def _curves_at_paper_scale() -> tuple[Part, ...]:
    return tuple(
        part(
            f"{data}-{noise}-{100 * rate:.0f}",
            _PAPER.format(data=data, rate=rate, noise=noise),
            "naive",
            "nvrm:variability=0.05",
        )
        for data in ("cifar10", "cifar100")
        for noise, rates in _RATES.items()
        for rate in rates
    )


def _clean_at_paper_scale() -> tuple[Part, ...]:
    return tuple(
        part(
            f"{data}-{network}",
            f"--benchmark clean-{data}:model={network} --data {data} --trials 10",
            "naive",
            "nvrm:variability=0.01|0.02|0.05",
        )
        for data in ("cifar10", "cifar100")
        for network in _NETWORKS
    )


_CLEAN_SMOKE = _SMOKE.replace("noisy-mnist:", "noisy-mnist:rate=0,")
_SHARED = part("mnist", f"{_MNIST} --trials 10", "naive", "nvrm:variability=0.03|0.05|0.08")  # of three studies
_ON_CLEAN = {
    "paper": _clean_at_paper_scale(),
    "small": (part("cifar10", f"{_CLEAN} --trials 3", "naive", "nvrm:variability=0.01|0.02|0.03"),),
    "smoke": (part("digits", _CLEAN_SMOKE, "naive", "nvrm"),),
}

STUDIES = {
    "label-noise": Study(
        "Does the network end up repeating wrong labels?",
        "figures.generalisation.curves",
        {
            "paper": _curves_at_paper_scale(),
            "small": (
                _SHARED,
                part("mnist", f"{_MNIST} --trials 10", "psgd:variability=0.001"),
                part("cifar10", f"{_CIFAR} --trials 3", "naive", "nvrm:variability=0.03|0.05|0.08"),
            ),
            "smoke": (part("digits", _SMOKE, "naive", "nvrm"),),
        },
    ),
    "denoising": Study(
        "Is it the noise, or taking it off again? NVRM and PSGD over their scales.",
        "figures.generalisation.scales",
        {
            "paper": (
                part(
                    "cifar10",
                    _PAPER_NOISY,
                    "naive",
                    "nvrm:variability=0.01|0.02|0.05|0.1|0.2",
                    "psgd:variability=0.0001|0.001|0.01|0.1",
                ),
            ),
            "small": (
                _SHARED,
                part(
                    "mnist",
                    f"{_MNIST} --trials 3",
                    "nvrm:variability=0.01|0.02|0.12",
                    "psgd:variability=0.0001|0.0003|0.001|0.003|0.01",
                ),
            ),
            "smoke": (part("digits", _SMOKE, "naive", "nvrm:variability=0.01|0.1", "psgd:variability=0.001|0.01"),),
        },
    ),
    "noise-types": Study(
        "Does the law of the noise matter? Gaussian, Laplace and uniform over their scales.",
        "figures.generalisation.laws",
        {
            "paper": (
                part(
                    "cifar10",
                    _PAPER_NOISY,
                    "naive",
                    *(f"nvrm:variability=0.01|0.02|0.05|0.1|0.2,noise={law}" for law in _LAWS),
                ),
            ),
            "small": (
                _SHARED,
                part(
                    "mnist",
                    f"{_MNIST} --trials 3",
                    "nvrm:variability=0.01|0.02|0.12",
                    "nvrm:variability=0.01|0.02|0.03|0.05|0.08,noise=laplace",
                    "nvrm:variability=0.03|0.05|0.08|0.12|0.2,noise=uniform",
                ),
            ),
            "smoke": (part("digits", _SMOKE, "naive", "nvrm:noise=laplace", "nvrm:noise=uniform"),),
        },
    ),
    "learning-rates": Study(
        "Would another learning rate do as well?",
        "figures.generalisation.learning_rates",
        {
            "paper": (part("cifar10", f"{_PAPER_NOISY} --lr 0.01|0.1|1|10", "naive", "nvrm:variability=0.05"),),
            "small": (
                part("mnist", f"{_MNIST} --trials 3 --lr 0.0005|0.002|0.01|0.05|0.2", "naive", "nvrm:variability=0.08"),
            ),
            "smoke": (part("digits", f"{_SMOKE} --lr 0.01|0.1", "naive", "nvrm"),),
        },
    ),
    "tuned": Study(
        "With every method tuned alike, on held-out images whose labels are as noisy?",
        "figures.generalisation.methods",
        {
            "paper": (part("cifar10", f"{_PAPER_NOISY} --tune 16", "naive", "nvrm", "psgd", "sgld", "sam", "asam"),),
            "small": (
                part("mnist", f"{_MNIST} --trials 5 --tune 10 --tune-seeds 1", "naive", "nvrm", "psgd", "sgld", "sam"),
            ),
            "smoke": (part("digits", f"{_SMOKE} --tune 2", "naive", "nvrm", "sam"),),
        },
    ),
    "robustness": Study(
        "How much noise on its weights does a trained network stand?",
        "figures.generalisation.perturbed",
        _ON_CLEAN,
        perturbed=PERTURBED,
    ),
    "generalisation-gap": Study(
        "How far apart are training and test accuracy?",
        "figures.generalisation.methods",
        _ON_CLEAN,
    ),
}
