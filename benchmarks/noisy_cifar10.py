"""Noisy CIFAR-10: one task whose training labels are partly wrong, and whose test labels are not."""

from typing import TYPE_CHECKING, Annotated, Literal

if TYPE_CHECKING:
    from cl_nvrm.benchmark import Benchmark
    from cl_nvrm.data import Images


def benchmark(
    cifar10: "Images",
    *,
    rate: float = 0.4,
    noise: Annotated[str, "file", "symmetric", "pairflip", "asymmetric"] = "pairflip",
    noise_seed: int = -1,
    subset: int = 0,
    holdout: int = 0,
    model: Annotated[str, "models"] = "resnet34",
    augment: bool = True,
    normalise: Literal["channel", "pixel"] = "channel",
    seed: int,
) -> "Benchmark":
    """Flip labels by symmetric, pairflip or asymmetric noise, or by the matrix in a file; see ``classification``."""
    from cl_nvrm.generalization.classification import classification

    return classification(
        cifar10.coloured(),
        rate=rate,
        noise=noise,
        noise_seed=noise_seed,
        subset=subset,
        holdout=holdout,
        model=model,
        augment=augment,
        normalise=normalise,
        seed=seed,
    )
