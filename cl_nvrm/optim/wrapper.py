"""Wrapper: an optimizer around an instance of another one, with the same param groups and state."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from cl_nvrm.noise import Noise, Perturbation, Stream
from cl_nvrm.optim.plain import Optimizer

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
        # As torch's own: what was hung on an instance (hooks, the step that a scheduler counts) is no part of a copy.
        # Unlike torch's own: what it keeps beside groups and state is; LBFGS has a list of its parameters.
        kept = {k: v for k, v in vars(self.inner).items() if not (callable(v) or k.startswith("_optimizer_"))}
        return {"inner": self.inner, "kept": kept, "perturbation": self.perturbation}

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = dict(state)
        vars(own["inner"]).update(own.pop("kept"))
        super().__setstate__({"defaults": own["inner"].defaults, **own})

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients."""
        self.inner.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the wrapped optimizer's state and that of the noise; weights are not part of it."""
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        state = {**self.inner.state_dict(), "noise": self._noise_state()}
        for after in self._optimizer_state_dict_post_hooks.values():
            changed = after(self, state)
            state = state if changed is None else changed
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned, or a plain optimizer's state (the noise then starts from its seed)."""
        state = dict(state_dict)
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            changed = before(self, state)
            state = state if changed is None else changed
        self.inner.load_state_dict({key: value for key, value in state.items() if key != "noise"})
        self.perturbation.load_state_dict(state.get("noise") or Stream(self.perturbation.seed).state_dict())
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def _noise_state(self) -> dict[str, Any]:
        return self.perturbation.state_dict()
