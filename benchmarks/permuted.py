"""Permuted: all images of any data set in every task, under a pixel permutation of its own."""

from typing import TYPE_CHECKING, Annotated, Literal

if TYPE_CHECKING:
    from cl_nvrm.benchmark import Benchmark
    from cl_nvrm.data import Images


def benchmark(
    mnist: "Images",
    *,
    tasks: int = 5,
    model: Annotated[str, "models"] = "mlp",
    subset: int = 0,
    holdout: int = 0,
    fresh_optimizer: bool = True,
    scenario: Literal["task", "domain", "class"] = "domain",
    outputs: Literal["seen", "all"] = "seen",
    first: Literal["permuted", "plain"] = "permuted",
    pad: int = 0,
    normalise: Literal["channel", "none"] = "channel",
    seed: int,
) -> "Benchmark":
    """Permute the values of all images, in another way in each task; ``first=plain`` leaves the first as it is.

    The other arguments are as for split; with ``model=mlp``, this is permuted-mnist.
    """
    from cl_nvrm.continual.networks import network, recipe_of
    from cl_nvrm.continual.pixels import prepared
    from cl_nvrm.continual.shared_images import permuted

    images = prepared(mnist, pad, normalise)
    return permuted(
        images,
        network(model, tuple(images.train_x.shape[1:])),
        tasks=tasks,
        subset=subset,
        holdout=holdout,
        scenario=scenario,
        outputs=outputs,
        first=first,
        recipe=recipe_of(model, fresh_optimizer=fresh_optimizer),
        seed=seed,
    )
