"""Clean CIFAR-10: one task with the labels as they are, for generalisation gaps and robustness."""

from typing import TYPE_CHECKING, Annotated, Literal

if TYPE_CHECKING:
    from cl_nvrm.benchmark import Benchmark
    from cl_nvrm.data import Images


def benchmark(
    cifar10: "Images",
    *,
    subset: int = 0,
    holdout: int = 0,
    model: Annotated[str, "models"] = "resnet34",
    augment: bool = True,
    normalise: Literal["channel", "pixel"] = "channel",
    seed: int,
) -> "Benchmark":
    """Train a network on all images; arguments as for noisy-cifar10."""
    from cl_nvrm.generalization.classification import classification

    return classification(
        cifar10.coloured(),
        subset=subset,
        holdout=holdout,
        model=model,
        augment=augment,
        normalise=normalise,
        seed=seed,
    )
