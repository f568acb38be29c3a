"""Experience replay: each batch is joined by one from a memory of earlier tasks (Rolnick et al. 2019; Avalanche's)."""

from typing import TYPE_CHECKING, Annotated, Literal, Union

if TYPE_CHECKING:
    from cl_nvrm.plugins.rehearsal import NaiveRehearsalPlugin, ReplayPlugin


def plugin(
    *, memory: int = 200, mix: Annotated[Literal["halves", "concatenated"], "later"] = "halves", seed: int
) -> Union["ReplayPlugin", "NaiveRehearsalPlugin"]:
    """Keep ``memory`` training samples, in equal parts of all tasks.

    ``mix``: half of each batch is old, or, as in Hsu et al. 2018, memory and data are shuffled into batches of the
    usual size.
    """
    from cl_nvrm.plugins.rehearsal import NaiveRehearsalPlugin, ReplayPlugin

    return ReplayPlugin(memory, seed=seed) if mix == "halves" else NaiveRehearsalPlugin(memory, seed=seed)
