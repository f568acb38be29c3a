"""Split: the classes of any data set in equal groups, one group a task, learned by any network."""

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
    scenario: Literal["task", "domain", "class"] = "task",
    outputs: Literal["seen", "all"] = "seen",
    order: Literal["given", "seed"] = "given",
    augment: bool = False,
    online: bool = False,
    pad: int = 0,
    normalise: Literal["channel", "none"] = "channel",
    seed: int,
) -> "Benchmark":
    """Split the classes into ``tasks`` groups, in their ``order`` or in one drawn from the run's ``seed``.

    ``model`` is a network by name, which gets an output layer for each task, or one, as the ``scenario`` wants; that
    and ``outputs`` are explained in ``continual/scenarios``. ``subset`` and ``holdout`` are as in permuted-mnist,
    ``pad`` and ``normalise`` as in ``continual/pixels``. ``augment`` crops and mirrors training batches at random.
    ``online`` is one pass in batches of 10. Running statistics of batch normalisation go on from task to task, as all
    other state of a network does, and those after the last task are used for all.
    """
    from cl_nvrm.continual.networks import network, recipe_of
    from cl_nvrm.continual.pixels import prepared
    from cl_nvrm.continual.split import split

    images = prepared(mnist, pad, normalise)
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
