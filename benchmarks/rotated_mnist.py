"""Rotated MNIST: the same digits turned by another angle in each task, with a shared output layer."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from cl_nvrm.benchmark import Benchmark
    from cl_nvrm.data import Images


def benchmark(
    mnist: "Images",
    *,
    tasks: int = 5,
    angles: str = "even",
    most: float = 180.0,
    width: int = 1024,
    depth: int = 2,
    subset: int = 0,
    holdout: int = 0,
    fresh_optimizer: bool = True,
    scenario: Literal["task", "domain", "class"] = "domain",
    outputs: Literal["seen", "all"] = "seen",
    pad: int = 0,
    normalise: Literal["channel", "none"] = "channel",
    seed: int,
) -> "Benchmark":
    """Turn the digits anticlockwise, by angles that lie in [0, ``most``) degrees, or by those given.

    ``even``: k · most / tasks for task k (Lopez-Paz and Ranzato, NeurIPS 2017, draw one from each such interval);
    ``random``: drawn from the run's seed, as Buzzega et al. (NeurIPS 2020) do; or one angle a task, as in
    ``angles=0/45/90`` with ``tasks=3``. Each pixel is the nearest one of the original, and black where there is none.
    All other parameters and the recipe are those of permuted-mnist.
    """
    from cl_nvrm.benchmark import Recipe
    from cl_nvrm.continual.pixels import prepared
    from cl_nvrm.continual.shared_images import rotated
    from cl_nvrm.models.mlp import MLP

    if width < 1 or depth < 0:
        raise ValueError(f"width must be at least 1 and depth at least 0, got {width}, {depth}")
    images = prepared(mnist, pad, normalise)
    return rotated(
        images,
        lambda classes, heads: MLP(images.values, classes, width=width, depth=depth, heads=heads),
        tasks=tasks,
        angles=angles,
        most=most,
        subset=subset,
        holdout=holdout,
        scenario=scenario,
        outputs=outputs,
        recipe=Recipe(fresh_optimizer=fresh_optimizer),
        seed=seed,
    )
