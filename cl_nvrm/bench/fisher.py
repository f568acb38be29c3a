"""The Fisher information over all training images, against one epoch of training."""

from collections.abc import Callable
from functools import partial

from cl_nvrm.bench.timing import Row, Setting, alternate, compare
from cl_nvrm.bench.work import work
from cl_nvrm.benchmark import sampled_batches
from cl_nvrm.plugins.fisher import diagonal_fisher


def measure(setting: Setting) -> list[Row]:
    """Compare the per-sample kinds: one label a sample, and the expectation over all classes."""
    naive = work(setting, "naive", tasks=1, subset=setting.pick(0, 6_000))
    dataset = naive.experiences[0].dataset
    naive.train(0)  # the importances of a trained network are the ones anybody takes

    def fisher(kind: str) -> None:
        diagonal_fisher(naive.strategy.model, sampled_batches(dataset, 1000, 0, 0), kind)

    cases: dict[str, Callable[[], object]] = {"epoch": lambda: naive.steps(0)}
    kinds = ("empirical", "sampled", "exact")
    cases |= {kind: partial(fisher, kind) for kind in kinds}
    samples = alternate(cases, setting.pick(3, 1), setting, warm=0)
    count = f"{len(dataset):,} images"
    return [
        compare("fisher", f"{kind} Fisher / one epoch, {count}", samples, kind, "epoch", most=1.0) for kind in kinds
    ]
