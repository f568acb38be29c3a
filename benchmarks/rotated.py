"""Rotated: all images of any data set in every task, turned by another angle."""

from typing import TYPE_CHECKING, Annotated, Literal

if TYPE_CHECKING:
    from cl_nvrm.benchmark import Benchmark
    from cl_nvrm.data import Images


def benchmark(
    mnist: "Images",
    *,
    tasks: int = 5,
    angles: str = "even",
    most: float = 180.0,
    model: Annotated[str, "models"] = "mlp",
    subset: int = 0,
    holdout: int = 0,
    fresh_optimizer: bool = True,
    scenario: Literal["task", "domain", "class"] = "domain",
    outputs: Literal["seen", "all"] = "seen",
    pad: int = 0,
    normalise: Literal["channel", "none"] = "channel",
    seed: int,
) -> "Benchmark":
    """Turn all images of ``--data`` anticlockwise, by ``angles`` below ``most`` degrees, or by those given.

    Angles are those of rotated-mnist, which this is with ``model=mlp``; the other arguments are as for split.
    """
    from cl_nvrm.continual.networks import network, recipe_of
    from cl_nvrm.continual.pixels import prepared
    from cl_nvrm.continual.shared_images import rotated

    images = prepared(mnist, pad, normalise)
    return rotated(
        images,
        network(model, tuple(images.train_x.shape[1:])),
        tasks=tasks,
        angles=angles,
        most=most,
        subset=subset,
        holdout=holdout,
        scenario=scenario,
        outputs=outputs,
        recipe=recipe_of(model, fresh_optimizer=fresh_optimizer),
        seed=seed,
    )
