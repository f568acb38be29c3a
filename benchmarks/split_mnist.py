"""Split MNIST: {0,1}, {2,3}, … one after the other, each with its own output layer unless told otherwise."""

from typing import TYPE_CHECKING, Annotated, Literal

if TYPE_CHECKING:
    from cl_nvrm.benchmark import Benchmark
    from cl_nvrm.data import Images


def benchmark(
    mnist: "Images",
    *,
    tasks: int = 5,
    width: int = 1024,
    depth: int = 2,
    subset: int = 0,
    holdout: int = 0,
    fresh_optimizer: bool = True,
    scenario: Annotated[Literal["task", "domain", "class"], "later"] = "task",
    outputs: Annotated[Literal["seen", "all"], "later"] = "seen",
    order: Annotated[Literal["digits", "seed"], "later"] = "digits",
    pad: Annotated[int, "later"] = 0,
    normalise: Annotated[Literal["channel", "none"], "later"] = "channel",
    seed: int,
) -> "Benchmark":
    """Split the classes into ``tasks`` equal groups; ``subset`` and ``holdout`` as in permuted-mnist.

    ``order`` is that of the digits, or one drawn from the run's ``seed``. ``scenario`` and ``outputs`` are explained in
    ``continual/scenarios``, ``pad`` and ``normalise`` in ``continual/pixels``.

    The network, five heads, the frozen heads of other tasks and a new optimizer for each task are those of Xie et al.
    2021, appendix C.2 (after Zenke et al. 2017). Of the batch sizes 64, 128 and 256, the last is best for plain
    training on held-out training images; epochs and learning rate are as in permuted-mnist, not tuned for any
    strategy.
    """
    from cl_nvrm.benchmark import Recipe
    from cl_nvrm.continual.pixels import prepared
    from cl_nvrm.continual.split import split
    from cl_nvrm.models.mlp import MLP

    if width < 1 or depth < 0:
        raise ValueError(f"width must be at least 1 and depth at least 0, got {width}, {depth}")
    images = prepared(mnist, pad, normalise)
    return split(
        images,
        lambda classes, heads: MLP(images.values, classes, width=width, depth=depth, heads=heads),
        tasks=tasks,
        subset=subset,
        holdout=holdout,
        scenario=scenario,
        outputs=outputs,
        order="given" if order == "digits" else order,
        recipe=Recipe(fresh_optimizer=fresh_optimizer),
        seed=seed,
    )
