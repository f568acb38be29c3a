"""Split Fashion-MNIST: five tasks of two kinds of clothes."""

from typing import TYPE_CHECKING, Annotated, Literal

if TYPE_CHECKING:
    from cl_nvrm.benchmark import Benchmark
    from cl_nvrm.data import Images


def benchmark(
    fashion_mnist: "Images",
    *,
    tasks: int = 5,
    model: Annotated[str, "models"] = "mlp",
    subset: int = 0,
    holdout: int = 0,
    fresh_optimizer: bool = True,
    scenario: Literal["task", "domain", "class"] = "task",
    outputs: Literal["seen", "all"] = "seen",
    order: Literal["given", "seed"] = "given",
    augment: bool = False,
    online: bool = False,
    pad: int = 0,
    normalise: Literal["channel", "none"] = "channel",
    seed: int,
) -> "Benchmark":
    """Split the classes into ``tasks`` groups; arguments as for split."""
    from cl_nvrm.continual.networks import network, recipe_of
    from cl_nvrm.continual.pixels import prepared
    from cl_nvrm.continual.split import split

    images = prepared(fashion_mnist, pad, normalise)
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
