"""Random labels: one task whose training labels, or images, are random: what a network can fit (Zhang et al. 2017)."""

from typing import TYPE_CHECKING, Annotated, Literal

if TYPE_CHECKING:
    from cl_nvrm.benchmark import Benchmark
    from cl_nvrm.data import Images


def benchmark(
    mnist: "Images",
    *,
    corruption: Literal["labels", "shuffled-pixels", "random-pixels", "gaussian"] = "labels",
    p: float = 1.0,
    subset: int = 0,
    holdout: int = 0,
    validation: int = 0,
    whitening: bool = False,
    model: Annotated[str, "models"] = "mlp(width=512,depth=1)",
    seed: int,
) -> "Benchmark":
    """Draw a share ``p`` of the labels anew, over all classes, or corrupt the images instead; see ``randomisation``."""
    from cl_nvrm.generalization.randomisation import randomisation

    return randomisation(
        mnist,
        corruption=corruption,
        p=p,
        subset=subset,
        holdout=holdout,
        validation=validation,
        whitening=whitening,
        model=model,
        seed=seed,
    )
