"""Randomisation tests (Zhang et al. 2017), and what keeps a network from memorising: what each study trains.

``paper`` has all of CIFAR-10 and the paper's networks, ``small`` 9,000 of its images; whitening and learning rates are
those of its appendix A, batch size and epochs ours. IOC networks are trained by Adam, as their paper says, with and
without the constraint.
"""

from cl_nvrm.study.definitions import Part, Study, part

_MLP1, _MLP3 = "mlp(width=512,depth=1)", "mlp(width=512,depth=3)"
_DROPOUT = "regularised-mlp(widths=512,dropout=0.5)"
_CORRUPTIONS = ("p=0", "corruption=shuffled-pixels", "corruption=gaussian", "corruption=random-pixels", "p=1")
_SHARES = ("p=0", "p=0.25", "p=0.5", "p=0.75", "p=1")
_IMAGES = {"paper": "whitening=true", "small": "subset=10000,validation=1000,whitening=true"}


def _cifar(scale: str, panel: str, model: str, setting: str, *strategies: str, more: str = "") -> Part:
    words = f"--benchmark random-labels:{_IMAGES[scale]},model={model},{setting} --data cifar10 --trials 3 {more}"
    return part(panel, words, *(strategies or ("naive",)))


def _digits(setting: str, *strategies: str, model: str = "mlp(width=32,depth=1)") -> Part:
    words = f"--benchmark random-labels:subset=300,validation=100,model={model},{setting} --data digits"
    return part("digits", f"{words} --epochs 3 --trials 2", *(strategies or ("naive",)))


def _memorising(panel: str, setting: str) -> tuple[Part, ...]:
    """Networks and regularisers on the same labels."""
    on = ("small", panel)
    return (
        _cifar(*on, _MLP1, setting, "naive", "nvrm:variability=0.01|0.02|0.03", "early-stopping"),
        _cifar(*on, _MLP1, setting, more="--weight-decay 0.0005"),
        _cifar(*on, _DROPOUT, setting),
        _cifar(*on, _DROPOUT, setting, more="--weight-decay 0.0005"),
        _cifar(*on, _MLP3, setting),
        _cifar(*on, "ioc-mlp", setting),
        _cifar(*on, "ioc-mlp(convex=false)", setting),
    )


_NETWORKS = {"mlp-1x512": _MLP1, "mlp-3x512": _MLP3, "alexnet": "small-alexnet", "inception": "small-inception"}

STUDIES = {
    "memorisation": Study(
        "What keeps a network from memorising random labels, and what does that cost on true ones?",
        "figures.fitting.curves",
        {
            "paper": tuple(_cifar("paper", name, net, "p=1") for name, net in _NETWORKS.items()),
            "small": (*_memorising("random-labels", "p=1"), *_memorising("true-labels", "p=0")),
            "smoke": (_digits("p=1", "naive", "nvrm"), _digits("p=1", model="ioc-mlp(width=32,depth=1)")),
        },
    ),
    "corruptions": Study(
        "Does one recipe fit every corruption, and which takes longest?",
        "figures.fitting.curves",
        {
            "paper": tuple(_cifar("paper", name, n, kind) for name, n in _NETWORKS.items() for kind in _CORRUPTIONS),
            "small": tuple(
                _cifar("small", name, _NETWORKS[name], kind)
                for name in ("mlp-1x512", "mlp-3x512")
                for kind in _CORRUPTIONS
            ),
            "smoke": tuple(map(_digits, _CORRUPTIONS)),
        },
    ),
    "shares": Study(
        "What do test error and time to fit do as more and more of the labels are random?",
        "figures.fitting.shares",
        {
            "paper": tuple(_cifar("paper", name, n, share) for name, n in _NETWORKS.items() for share in _SHARES),
            "small": tuple(_cifar("small", "mlp-1x512", _MLP1, share) for share in _SHARES),
            "smoke": tuple(map(_digits, ("p=0", "p=0.5", "p=1"))),
        },
    ),
}
