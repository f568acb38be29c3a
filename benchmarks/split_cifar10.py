"""Split CIFAR-10: five tasks of two kinds of pictures."""

from typing import TYPE_CHECKING, Annotated, Literal

if TYPE_CHECKING:
    from cl_nvrm.benchmark import Benchmark
    from cl_nvrm.data import Images


def benchmark(
    cifar10: "Images",
    *,
    tasks: int = 5,
    model: Annotated[str, "models"] = "small-cnn",
    subset: int = 0,
    holdout: int = 0,
    fresh_optimizer: bool = True,
    scenario: Literal["task", "domain", "class"] = "task",
    outputs: Literal["seen", "all"] = "seen",
    order: Literal["given", "seed"] = "given",
    augment: bool = False,
    online: bool = False,
    seed: int,
) -> "Benchmark":
    """Split the classes into ``tasks`` groups; arguments as for split.

    Smaller images get a black frame and grey ones three channels, so that the network is the same.
    """
    from cl_nvrm.continual.networks import network, recipe_of
    from cl_nvrm.continual.split import split

    images = cifar10.coloured()
    return split(
        images,
        network(model, tuple(images.train_x.shape[1:])),
        tasks=tasks,
        subset=subset,
        holdout=holdout,
        scenario=scenario,
        outputs=outputs,
        order=order,
        augment=augment,
        recipe=recipe_of(model, fresh_optimizer=fresh_optimizer, online=online),
        seed=seed,
    )
