"""Perturbation: noise on, noise off, weights back bit for bit.

NVRM (Xie et al., Neural Computation 2021, eq. 9-10) evaluates loss and gradient at θ + ξ and lets the optimizer step θ.
The clean weights are kept, never computed back: subtracting the noise again would leave a rounding error in the weights
at every step, (w + e) - e ≠ w.

On a CPU, θ + ξ is written into a second buffer in one pass, and a parameter that has its storage to itself is pointed
to that buffer until the noise goes off: no clean copy is made, nothing is copied back. Everything else (storage that
several tensors share, other devices) is perturbed in place and restored from a copy. Autograd notices both: a backward
pass through weights that were perturbed or restored since the forward pass is an error.

With θ = (1, 2) and draws ξ = (0.1, -0.3) at b = 1: ``apply`` makes the parameter read (1.1, 1.7), ``restore`` (1, 2).
At b = 0.5 and ``relative``, the root mean square of θ is √2.5 ≈ 1.58, and the same draws are multiplied by 0.79.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from cl_nvrm.errors import UserError
from cl_nvrm.noise.laws import Noise, law
from cl_nvrm.noise.stream import Seed, Stream


class Perturbation:
    """Independent noise on a set of parameters, drawn from a stream of its own.

    ``variability`` is the scale b ≥ 0 of the noise; at 0 nothing is touched and no random number is drawn. With
    ``relative`` each tensor's noise is b times its own root mean square. Frozen parameters (``requires_grad`` False)
    are left alone; parameters that share their storage get one draw. The parameters are named at every ``apply``, so
    heads that appear later, or an optimizer that was replaced, need no bookkeeping.

    The sequence of draws depends on the seed, the kind of device and the sizes of the parameters, and on nothing else:
    the global random state is neither read nor moved. With a tuple of seeds the leading axis of every parameter is the
    trial, and each trial's draws are those of its own seed.

    >>> weights = nn.Linear(3, 2)
    >>> clean = weights.bias.tolist()
    >>> perturbation = Perturbation(0.1, seed=7)
    >>> with perturbation.around(weights.parameters()):
    ...     weights.bias.tolist() == clean
    False
    >>> weights.bias.tolist() == clean
    True
    """

    def __init__(
        self,
        variability: float = 0.01,
        noise: Noise | str = "gaussian",
        *,
        relative: bool = False,
        seed: Seed = 0,
    ) -> None:
        if not (math.isfinite(variability) and variability >= 0):
            raise UserError(f"variability must be a finite number of at least 0, got {variability}")
        self.variability = float(variability)
        self.noise = law(noise) if isinstance(noise, str) else noise
        self.relative = relative
        self.seed = seed
        self._stream = Stream(seed)
        self._buffers: dict[tuple[str, int], Tensor] = {}
        self._swapped: list[tuple[Tensor, Tensor]] = []
        self._copied: list[tuple[Tensor, Tensor]] = []
        self._active = False

    @property
    def active(self) -> bool:
        """Whether parameters are perturbed at this moment."""
        return self._active

    @torch.no_grad()
    def draw(self, parameters: Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Pair each distinct trainable parameter with fresh noise ξ of its shape; the parameters stay as they are.

        The noise lies in buffers that the next draw overwrites. Nothing is drawn at variability 0.
        """
        here, elsewhere = self._chosen(parameters)
        noises = []
        for k, parameter in enumerate(here):
            xi, zeros = (self._buffer(use, k, parameter, _wide(parameter.dtype)) for use in ("noise", "zeros"))
            self._stream.add_noise(xi, zeros.zero_(), self.noise, self._scale(parameter))
            noises.append(xi)
        for group in elsewhere:
            noises += self._drawn_elsewhere(group)
        return list(zip([*here, *chain(*elsewhere)], noises, strict=True))

    @torch.no_grad()
    def noisy(self, parameters: Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Pair each distinct trainable parameter θ with θ + ξ, ξ fresh, in θ's type and layout; θ stays as it is.

        θ + ξ lies in buffers that the next call overwrites. It is, bit for bit, what ``apply`` would have made of θ.
        """
        here, elsewhere = self._chosen(parameters)
        chosen = [*here, *chain(*elsewhere)]
        values = [self._buffer("noisy", k, p, p.dtype, laid_out=True) for k, p in enumerate(chosen)]
        for k, (parameter, value) in enumerate(zip(here, values, strict=False)):
            dtype, clean = _wide(parameter.dtype), parameter.data
            direct = value.dtype == dtype and value.is_contiguous()
            noisy = value if direct else self._buffer("noise", k, parameter, dtype)
            self._stream.add_noise(noisy, clean.to(dtype).contiguous(), self.noise, self._scale(parameter))
            if not direct:
                value.copy_(noisy)
        done = len(here)
        for group in elsewhere:
            there = values[done : done + len(group)]
            torch._foreach_copy_(there, [p.detach() for p in group])
            torch._foreach_add_(there, self._drawn_elsewhere(group))
            done += len(group)
        return list(zip(chosen, values, strict=True))

    @torch.no_grad()
    def apply(self, parameters: Iterable[Tensor]) -> None:
        """Add fresh noise to the parameters; RuntimeError if noise is on already."""
        if self._active:
            raise RuntimeError("the weights are perturbed already; restore() them before another apply()")
        here, elsewhere = self._chosen(parameters)
        self._active = True
        try:
            for k, parameter in enumerate(here):
                self._apply_on_cpu(k, parameter)
            for group in elsewhere:
                self._apply_elsewhere(group)
            increment_version([parameter for parameter, _ in self._swapped])
        except BaseException:
            self.restore()
            raise

    @torch.no_grad()
    def restore(self) -> None:
        """Bring the clean weights back, bit for bit; does nothing if no noise is on."""
        for parameter, clean in self._swapped:
            parameter.data = clean
        increment_version([parameter for parameter, _ in self._swapped])
        if self._copied:
            tensors, copies = zip(*self._copied, strict=True)
            torch._foreach_copy_(tensors, copies)
        self._swapped, self._copied, self._active = [], [], False

    @contextmanager
    def around(self, parameters: Iterable[Tensor]) -> Iterator[None]:
        """Perturb for the length of a ``with`` block; the weights come back whatever happens inside."""
        self.apply(parameters)
        try:
            yield
        finally:
            self.restore()

    def state_dict(self) -> dict[str, Any]:
        """Return what the next draws depend on."""
        return self._stream.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the sequence of draws where ``state`` was taken."""
        self._stream.load_state_dict(state)

    def _apply_on_cpu(self, k: int, parameter: Tensor) -> None:
        dtype = _wide(parameter.dtype)
        swap = parameter.dtype == dtype and _alone_in_its_storage(parameter)
        clean, noisy = parameter.data, self._buffer("noise", k, parameter, dtype)
        self._stream.add_noise(noisy, clean.to(dtype).contiguous(), self.noise, self._scale(parameter))
        if swap:
            self._swapped.append((parameter, clean))
            parameter.data = noisy
        else:
            self._copied.append((parameter, self._buffer("clean", k, parameter, parameter.dtype).copy_(clean)))
            parameter.copy_(noisy)  # half precision: rounded once, to the parameter's own type

    def _apply_elsewhere(self, chosen: list[Tensor]) -> None:
        if not chosen:
            return
        tensors = [p.detach() for p in chosen]
        copies = [self._buffer("clean", k, p, p.dtype) for k, p in enumerate(chosen)]
        torch._foreach_copy_(copies, tensors)
        self._copied += zip(chosen, copies, strict=True)
        torch._foreach_add_(tensors, self._drawn_elsewhere(chosen))

    def _drawn_elsewhere(self, chosen: list[Tensor]) -> list[Tensor]:
        """Noise for each parameter, drawn for all at once: an accelerator's time goes into the number of calls."""
        trials = len(self.seed) if isinstance(self.seed, tuple) else 1
        sizes = [p.numel() // trials for p in chosen]
        flat = torch.empty(trials, sum(sizes), device=chosen[0].device, dtype=_wide(chosen[0].dtype))
        self._stream.draw_(flat if isinstance(self.seed, tuple) else flat[0], self.noise)
        if not self.relative:
            flat.mul_(self.variability)
        noises = []
        for parameter, xi in zip(chosen, flat.split(sizes, dim=1), strict=True):
            noises.append(xi.unflatten(1, parameter.shape[1:]) if trials > 1 else xi.view(parameter.shape))
            if self.relative:
                noises[-1].mul_(self._shaped_scale(parameter))
        return noises

    def _chosen(self, parameters: Iterable[Tensor]) -> tuple[list[Tensor], list[list[Tensor]]]:
        """The trainable parameters, one for each piece of storage: those on a CPU, and groups of one type elsewhere."""
        here: list[Tensor] = []
        elsewhere: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        seen: set[tuple[int, int]] = set()
        for parameter in parameters if self.variability else ():
            place = (parameter.data_ptr(), parameter.numel())
            if parameter.requires_grad and place not in seen:
                seen.add(place)
                if _on_cpu(parameter):
                    here.append(parameter)
                else:
                    elsewhere.setdefault((parameter.device, parameter.dtype), []).append(parameter)
        return here, list(elsewhere.values())

    def _scale(self, parameter: Tensor) -> float | Tensor:
        if not self.relative:
            return self.variability
        wide = parameter.detach().to(_wide(parameter.dtype))
        if isinstance(self.seed, tuple):
            wide = wide.flatten(1)
        return self.variability * wide.square().mean(-1 if isinstance(self.seed, tuple) else None).sqrt()

    def _shaped_scale(self, parameter: Tensor) -> float | Tensor:
        scale = self._scale(parameter)
        if isinstance(scale, Tensor) and scale.ndim:
            return scale.view(-1, *[1] * (parameter.ndim - 1))
        return scale

    def _buffer(self, use: str, k: int, like: Tensor, dtype: torch.dtype, *, laid_out: bool = False) -> Tensor:
        """A tensor that is kept for the ``k``-th parameter: contiguous, or ``laid_out`` in memory as ``like`` is."""
        found = self._buffers.get((use, k))
        fits = found is not None and (found.shape, found.dtype, found.device) == (like.shape, dtype, like.device)
        if found is None or not fits or (laid_out and found.stride() != like.stride()):
            layout = torch.preserve_format if laid_out else torch.contiguous_format
            found = torch.empty_like(like, dtype=dtype, memory_format=layout, requires_grad=False)
            self._buffers[use, k] = found
        return found


@contextmanager
def weight_noise(
    model: nn.Module,
    variability: float,
    noise: Noise | str = "gaussian",
    *,
    relative: bool = False,
    seed: int = 0,
) -> Iterator[None]:
    """Perturb all trainable weights of ``model`` once for the length of a ``with`` block; arguments as Perturbation.

    >>> model = nn.Linear(1, 1)
    >>> clean = model(torch.ones(1)).item()
    >>> with weight_noise(model, 0.1, seed=1):
    ...     model(torch.ones(1)).item() == clean
    False
    >>> model(torch.ones(1)).item() == clean
    True
    """
    with Perturbation(variability, noise, relative=relative, seed=seed).around(model.parameters()):
        yield


def _wide(dtype: torch.dtype) -> torch.dtype:
    """The type to draw noise in: half precision cannot hold the tails of a law."""
    return dtype if dtype.itemsize >= 4 else torch.float32


def _on_cpu(parameter: Tensor) -> bool:
    return parameter.device.type == "cpu"


def _alone_in_its_storage(parameter: Tensor) -> bool:
    """Whether no other tensor would miss the noise if this one pointed elsewhere for a while."""
    storage = parameter.untyped_storage()
    users = getattr(torch._C, "_storage_Use_Count", lambda _: 0)(storage._cdata)
    return bool(users == 2 and storage.nbytes() == parameter.nbytes and parameter.is_contiguous())
