"""Wrapper: an optimizer around an instance of another one, with the same param groups and state."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from cl_nvrm.noise import Noise, Perturbation, Stream

Closure = Callable[[], Any]


class Wrapper(Optimizer):
    """Shows the param groups and the state of ``inner`` as its own, so that schedulers and scalers see one optimizer.

    Subclasses say in ``step`` (and ``zero_grad``) what noise does to the weights. ``state_dict`` is that of ``inner``
    with one more key, ``noise``: what the next draws depend on.
    """

    def __init__(
        self,
        inner: Optimizer,
        variability: float = 0.01,
        noise: Noise | str = "gaussian",
        *,
        relative: bool = False,
        seed: int = 0,
    ) -> None:
        if not isinstance(inner, Optimizer):
            raise TypeError(f"wrap an optimizer instance, such as torch.optim.Adam(model.parameters()), not {inner!r}")
        self.inner = inner
        self.perturbation = Perturbation(variability, noise, relative=relative, seed=seed)
        state = inner.state
        super().__init__(
            inner.param_groups, inner.defaults
        )  # enters the same groups again, through the properties below
        inner.state = state

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The param groups of the wrapped optimizer, the very same objects."""
        return self.inner.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.inner.param_groups = groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        """The per-parameter state of the wrapped optimizer, the very same object."""
        return self.inner.state

    @state.setter
    def state(self, state: Any) -> None:
        self.inner.state = state

    @property
    def weights(self) -> list[Tensor]:
        """All parameters of all groups, in order."""
        return [p for group in self.param_groups for p in group["params"]]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the wrapped optimizer."""
        self.inner.add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        # torch's own keeps only groups, state and defaults; a copy needs the wrapped instance and the noise, too.
        return self.__dict__.copy()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients."""
        self.inner.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the wrapped optimizer's state and that of the noise; weights are not part of it."""
        return {**self.inner.state_dict(), "noise": self.perturbation.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned, or a plain optimizer's state (the noise then starts from its seed)."""
        inner = {key: value for key, value in state_dict.items() if key != "noise"}
        self.inner.load_state_dict(inner)
        self.perturbation.load_state_dict(state_dict.get("noise") or Stream(self.perturbation.seed).state_dict())
