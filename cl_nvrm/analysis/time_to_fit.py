"""Time to fit: how long a network trains until it gives its training samples the labels they were given.

Zhang et al., ICLR 2017 (arXiv 1611.03530), section 2.1 and figure 1(b), compare it over kinds of randomness.
"""

from dataclasses import dataclass

from cl_nvrm.spec import RunResult
from cl_nvrm.spec.curves import TRAINING


@dataclass(frozen=True)
class TimeToFit:
    """The first epoch (from 1) that ends at the level asked for, and gradients until then; or None, and why.

    ``gradients`` counts as provenance does: one a step, under SAM two.
    """

    epoch: int | None
    gradients: int | None
    reason: str | None = None


def time_to_fit(result: RunResult, level: float = 1.0) -> TimeToFit:
    """Return when training accuracy first reached ``level``, in (0, 1]; ValueError for a level that is none.

    A run that diverged later, or lost the level again, has still reached it.
    """
    if not 0 < level <= 1:
        raise ValueError(f"level must lie within 0 (exclusive) and 1, got {level:g}")
    curve = result.curves.get(TRAINING, ())
    if not curve:
        return TimeToFit(None, None, "training accuracy was not recorded after every epoch")
    if len(result.accuracy) > 1:
        return TimeToFit(None, None, "there are several tasks")
    epoch = next((number for number, value in enumerate(curve, 1) if value >= level), None)
    if epoch is None:
        best, epochs = 100 * max(curve), len(curve)
        return TimeToFit(None, None, f"the best of {epochs} epochs has {best:.2f} %, not {100 * level:g} %")
    taken = result.provenance.get("gradient_passes")
    if taken is None or result.status != "done":  # a diverged run breaks off within an epoch
        return TimeToFit(epoch, None, "the run does not say how many gradients a full epoch takes")
    epochs = max([len(curve), *map(len, result.losses)])  # early stopping forgets the curves of the last ones
    return TimeToFit(epoch, taken * epoch // epochs)
