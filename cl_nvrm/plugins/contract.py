"""What a plug-in may offer beside Avalanche's callbacks, and what it finds: all of it, on one page.

Nothing here is imported by anybody or has to be derived from: an attribute counts wherever it is found. A test holds
this page against the code that asks, and against strategies/README.md.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn


class Plugin(Protocol):
    """What a plug-in may offer; each attribute may be missing."""

    diagnostics: Mapping[str, Any]
    """Plain values of the task just learned; recorded after every task, in the result's ``diagnostics``."""

    elementwise: bool
    """Whether it works on a stack of trials (``--stack``), where the leading axis of every weight is the trial."""

    alone: bool
    """Whether no other plug-in may be added to it."""

    reads_data_gradient: bool
    """Whether it reads ``p.grad`` in ``after_backward`` as the data's gradient, which loss terms then stay out of."""

    def rearrange(self, benchmark: Any) -> Any:
        """Return the ``Benchmark`` to train on instead, with as many tasks; asked once, before the network is built."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint has to keep; without it, that is all its attributes, which must be plain."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken."""


class Module(Protocol):
    """What the file of a strategy, an optimizer or a network may say beside its function."""

    SEARCH: Mapping[str, tuple[float, float]]
    """Of a strategy: the ranges that ``--tune`` searches, by parameter, on a logarithmic scale."""

    ELEMENTWISE: bool
    """Of an optimizer: whether it steps each weight by itself, so that trials can be stacked."""

    RECIPES: Mapping[str, Mapping[str, Any]]
    """Of a network: fields of ``benchmark.Recipe`` that differ for it, by kind of experiment (``classification``)."""


class Model(Protocol):
    """What a network may offer; each may be missing."""

    heads: nn.ModuleList
    """Its output layers by task label, of a network with several."""

    def constrain(self) -> None:
        """Put the stored weights back where they must be; called before the first step and after each."""

    def learn(self, x: Tensor, y: Tensor, task: Tensor) -> None:
        """Take in a batch; called in the place of a gradient step, for models that learn without one."""

    def members(self) -> list[nn.Module]:
        """Return the trials of a stack as ordinary modules that share its memory; only a stack has this."""


class Strategy(Protocol):
    """What a plug-in finds on the strategy beside what Avalanche puts there (``model``, ``optimizer``, ``mb_x``)."""

    seed: int | tuple[int, ...]
    """What the order of batches depends on."""

    trials: int
    """The number of stacked trials; missing outside of a stack."""

    loss: Tensor | None
    """The loss of the batch, a number; in a stack (trials,); None where the model learns by itself."""

    curves: Any
    """What was recorded after every epoch so far, by name, in ``curves.values``."""

    gradient_passes: int
    """How many backward passes there were; whoever takes one that is not the loop's adds one."""

    iterations: int
    """How many steps a task takes, where these are counted; 0 where epochs are."""
