"""NVRM around any torch optimizer.

Xie et al., Neural Computation 2021, eq. 10: θ ← θ - η ∇L(θ + ξ), ξ fresh each step. The authors' optimizers leave the
noise in the weights between steps and take it out every ``num_iters`` of them, so what one evaluates or saves at any
other moment is noisy. Here it never is in the weights: a training pass finds θ + ξ in their place (see ``passes``),
whatever the order of the calls around it:

    optimizer = NVRM(torch.optim.Adam(model.parameters()), variability=0.03)
    for x, y in loader:
        loss(model(x), y).backward()     # model in training mode: at θ + ξ
        optimizer.step()                 # of θ
        optimizer.zero_grad()

What reads weights by itself, outside of any module's forward pass (a penalty in the loop, a parameter that is in no
module), reads θ, which ``step`` complains of. Where it is to read θ + ξ, the passes go into a block:

    with optimizer.noisy():
        (loss(model(x), y) + model.temperature.square()).backward()
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from cl_nvrm.optim.passes import accounts, join
from cl_nvrm.optim.wrapper import Closure, Wrapper


class NVRM(Wrapper):
    """Steps the clean weights of ``inner`` with gradients taken at freshly perturbed ones.

    ``inner`` is any torch optimizer instance; ``variability``, ``noise``, ``relative`` and ``seed`` are those of
    ``Perturbation``. All passes of one step see the same ξ: the micro-batches of an accumulated gradient, the
    evaluations of a closure (line searches of LBFGS), the two forward passes of a contrastive loss. Weight decay and
    momentum act on clean weights. A step that a GradScaler skips costs nothing.

    Passes in evaluation mode or without gradients see clean weights. RuntimeError from ``step`` where a gradient was
    taken at clean weights: that would be the wrapped optimizer under a false name. A warning, where a loss depends on a
    weight in both ways (a penalty; not noticed with several forward passes to one backward pass).

    With ``automatic`` False, modules see noise only where ``perturb`` or ``noisy`` put it on the weights themselves.
    """

    automatic = True
    _stepping = False
    _before: dict[str, Any] | None = None  # where the draw of the step under way began
    _values: "list[tuple[Tensor, Tensor]] | None" = None  # θ and θ + ξ of that step
    _found: "list[tuple[int, int]] | None" = None  # what tells whether θ has changed since
    _pending = False  # a forward pass has seen them, and no backward pass came yet
    _stale = False  # a backward pass came since they were computed
    _seen = False  # some gradient since the last step, of whatever use, was taken at θ + ξ

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "automatic": self.automatic, "_before": self._before}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._join()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the wrapped optimizer; its weights are seen through noise, too."""
        super().add_param_group(param_group)
        self._join()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients."""
        super().zero_grad(set_to_none)
        join(self)
        booked = [account for _, account in accounts(self.weights)]
        for account in booked:
            account.clean = None
        if any(account.noisy for account in booked) and not self._pending and not self._stepping:
            self._end_step()  # the step was left out, by a GradScaler, say

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:  # type: ignore[override]
        """Step the clean weights; ``closure`` as in torch, evaluated under noise. RuntimeError: see the class."""
        self._join()

        def noisy() -> Any:
            with self.noisy(), torch.enable_grad():
                return closure()  # type: ignore[misc]

        self._stepping = True
        try:
            self.denoise()
            if closure is None:
                self._refuse_clean_gradients()
            loss = self.inner.step(noisy) if closure else self.inner.step()
        finally:
            self._stepping = False
        self._end_step()
        self._seen = False
        return loss

    @contextmanager
    def noisy(self) -> Iterator[None]:
        """Put the step's noise on the weights themselves for a ``with`` block, which takes forward and backward pass.

        For what reads weights outside of a module's forward pass. ``step`` may be in the block or after it.
        """
        self.perturb()
        try:
            yield
        finally:
            self.denoise()

    def perturb(self) -> None:
        """Put the step's noise on the weights themselves, until ``step`` or ``denoise``."""
        if not self.perturbation.active:
            self._draw_again()
            self.perturbation.apply(self.weights)
            self._mark_perturbed(True)
            self._seen = True

    def denoise(self) -> None:
        """Take noise that was put on the weights by hand off again, bit for bit; does nothing if they are clean."""
        if self.perturbation.active:
            self.perturbation.restore()
            self._mark_perturbed(False)

    def noisy_weights(self) -> dict[int, Tensor]:
        """Return θ + ξ by the id of each weight for a pass that begins; empty while passes are to see θ.

        The tensors are those of the next pass, too; they are overwritten if θ or ξ has changed by then.
        """
        if not self.automatic or not self.perturbation.variability or self.perturbation.active:
            return {}
        weights = [weight for weight in self.weights if weight.requires_grad]
        found = [(weight.data_ptr(), weight._version) for weight in weights]
        in_backward = torch._C._current_graph_task_id() != -1  # a checkpointed segment, computed again
        known = self._values is not None and found == self._found
        if not known or (self._stale and not in_backward):  # what changes p.data goes unnoticed: better look again
            self._draw_again()
            self._values = self.perturbation.noisy(weights)
            if not known:
                increment_version([value for _, value in self._values])
            self._found, self._stale = found, False
        self._pending = True
        places = {(weight.data_ptr(), weight.numel()): value for weight, value in self._values or ()}
        return {id(w): places[w.data_ptr(), w.numel()].view(w.shape) for w in weights}  # some share their storage

    def note_backward(self) -> None:
        """Take note that a backward pass came through θ + ξ."""
        self._stale, self._pending, self._seen = True, False, True

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned, or a plain optimizer's state (the noise then starts from its seed)."""
        super().load_state_dict(state_dict)
        self._end_step()

    def _noise_state(self) -> dict[str, Any]:
        return self.perturbation.state_dict() if self._before is None else self._before

    def _join(self) -> None:
        join(self)
        accounts(self.weights)

    def _draw_again(self) -> None:
        """Let the next draw be that of the step under way."""
        if self._before is None:
            self._before = self.perturbation.state_dict()
        else:
            self.perturbation.load_state_dict(self._before)

    def _end_step(self) -> None:
        """Let the next pass draw anew."""
        self._before, self._values = None, None
        self._pending = self._stale = False
        for _, account in accounts(self.weights):
            account.noisy, account.mixed, account.clean = False, False, None

    def _mark_perturbed(self, perturbed: bool) -> None:
        for _, account in accounts(self.weights):
            account.perturbed = perturbed

    def _refuse_clean_gradients(self) -> None:
        if not self.perturbation.variability:
            return
        pairs = [(p, account) for p, account in accounts(self.weights) if p.grad is not None]
        clean = [p for p, account in pairs if account.clean is p.grad]
        seen = self._seen or any(account.noisy for _, account in pairs)
        if clean or (pairs and not seen):
            which = f"of a weight of shape {tuple(clean[0].shape)} was" if clean else "has been"
            raise RuntimeError(
                f"a gradient {which} taken without noise: call the model in training mode; where weights are used "
                "outside of a module's forward pass, or it is part of a function given to torch.compile, take both "
                "passes in a block 'with optimizer.noisy():'"
            )
        if any(account.mixed for _, account in pairs):
            warnings.warn(
                "a part of the loss reads weights outside of a module's forward pass, and finds them without noise; if "
                "it is to see noise, too, take both passes in a block 'with optimizer.noisy():'",
                stacklevel=5,
            )
