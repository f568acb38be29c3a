"""Perturbation: noise on, noise off, weights back bit for bit.

NVRM (Xie et al., Neural Computation 2021, eq. 9-10) evaluates loss and gradient at θ + ξ and lets the optimizer step θ.
The clean weights are kept as a copy and copied back: subtracting the noise again would leave a rounding error in the
weights at every step, (w + e) - e ≠ w.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cl_nvrm.errors import UserError
from cl_nvrm.noise import Noise, law


class Perturbation:
    """Independent noise on a set of parameters, drawn from a generator of its own.

    ``variability`` is the scale b ≥ 0 of the noise; at 0 nothing is touched and no random number is drawn. With
    ``relative`` each tensor's noise is b times its own root mean square. Frozen parameters (``requires_grad`` False)
    are left alone; parameters that share their storage get one draw. The parameters are named at every ``apply``, so
    heads that appear later, or an optimizer that was replaced, need no bookkeeping.

    The sequence of draws depends on the seed, the device and the sizes of the parameters, and on nothing else: the
    global random state is neither read nor moved.
    """

    def __init__(
        self,
        variability: float = 0.01,
        noise: Noise | str = "gaussian",
        *,
        relative: bool = False,
        seed: int = 0,
    ) -> None:
        if not (math.isfinite(variability) and variability >= 0):
            raise UserError(f"variability must be a finite number of at least 0, got {variability}")
        self.variability = float(variability)
        self.noise = law(noise) if isinstance(noise, str) else noise
        self.relative = relative
        self.seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}
        self._buffers: dict[tuple[str, torch.device, torch.dtype], Tensor] = {}
        self._held: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._active = False

    @property
    def active(self) -> bool:
        """Whether parameters are perturbed at this moment."""
        return self._active

    def draw(self, parameters: Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Pair each distinct trainable parameter with fresh noise ξ of its shape; the parameters stay as they are.

        The noise lies in buffers that the next draw overwrites. Nothing is drawn at variability 0.
        """
        if self.variability == 0:
            return []
        pairs: list[tuple[Tensor, Tensor]] = []
        for (device, dtype), group in _grouped(parameters).items():
            # Half precision cannot hold the tails of the law; the sum is rounded once, to the parameter's own type.
            noise_dtype = dtype if dtype.itemsize >= 4 else torch.float32
            flat = self._buffer(f"noise for {dtype}", group, device, noise_dtype)
            self.noise.draw_(flat, self._generator(device)).mul_(self.variability)
            noises = _views(flat, group)
            if self.relative:
                for parameter, xi in zip(group, noises, strict=True):
                    xi.mul_(parameter.detach().to(noise_dtype).square().mean().sqrt())
            pairs += zip(group, noises, strict=True)
        return pairs

    @torch.no_grad()
    def apply(self, parameters: Iterable[Tensor]) -> None:
        """Add fresh noise to the parameters in place; RuntimeError if noise is on already."""
        if self._active:
            raise RuntimeError("the weights are perturbed already; restore() them before another apply()")
        pairs = self.draw(parameters)
        tensors = [parameter.detach() for parameter, _ in pairs]
        clean: list[Tensor] = []
        for (device, dtype), group in _grouped(p for p, _ in pairs).items():
            clean += _views(self._buffer("clean", group, device, dtype), group)
        if pairs:
            torch._foreach_copy_(clean, tensors)
        self._held, self._active = (tensors, clean), True
        try:
            if pairs:
                torch._foreach_add_(tensors, [xi for _, xi in pairs])
        except BaseException:
            self.restore()
            raise

    @torch.no_grad()
    def restore(self) -> None:
        """Copy the clean weights back, bit for bit; does nothing if no noise is on."""
        tensors, clean = self._held
        if tensors:
            torch._foreach_copy_(tensors, clean)
        self._held, self._active = ([], []), False

    @contextmanager
    def around(self, parameters: Iterable[Tensor]) -> Iterator[None]:
        """Perturb for the length of a ``with`` block; the weights come back whatever happens inside."""
        self.apply(parameters)
        try:
            yield
        finally:
            self.restore()

    def state_dict(self) -> dict[str, Any]:
        """Return what the next draws depend on: the state of the generator of each device in use."""
        return {"generators": {str(device): g.get_state() for device, g in self._generators.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the sequence of draws where ``state`` was taken."""
        self._generators = {}
        for device, generator_state in state["generators"].items():
            self._generator(torch.device(device)).set_state(generator_state)

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self.seed)
        return self._generators[device]

    def _buffer(self, use: str, group: list[Tensor], device: torch.device, dtype: torch.dtype) -> Tensor:
        size = sum(p.numel() for p in group)
        flat = self._buffers.get((use, device, dtype))
        if flat is None or flat.numel() != size:
            flat = self._buffers[use, device, dtype] = torch.empty(size, device=device, dtype=dtype)
        return flat


@contextmanager
def weight_noise(
    model: nn.Module,
    variability: float,
    noise: Noise | str = "gaussian",
    *,
    relative: bool = False,
    seed: int = 0,
) -> Iterator[None]:
    """Perturb all trainable weights of ``model`` once for the length of a ``with`` block; arguments as Perturbation."""
    with Perturbation(variability, noise, relative=relative, seed=seed).around(model.parameters()):
        yield


def _grouped(parameters: Iterable[Tensor]) -> dict[tuple[torch.device, torch.dtype], list[Tensor]]:
    """Trainable parameters by device and type, in order, one for each piece of storage."""
    groups: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    seen: set[tuple[int, int]] = set()
    for parameter in parameters:
        place = (parameter.data_ptr(), parameter.numel())
        if parameter.requires_grad and place not in seen:
            seen.add(place)
            groups.setdefault((parameter.device, parameter.dtype), []).append(parameter)
    return groups


def _views(flat: Tensor, group: list[Tensor]) -> list[Tensor]:
    pieces = flat.split([p.numel() for p in group])
    return [piece.view(p.shape) for piece, p in zip(pieces, group, strict=True)]
