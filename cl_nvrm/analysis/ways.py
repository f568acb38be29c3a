"""Ways: of several ways to numbers of a network's samples, the fastest that agrees with one sample at a time.

Fast ways rest on how a network uses its weights: each in one layer's own call, or where ``functional_call`` finds it.
Pruning, weight normalisation, ``F.linear(x, self.fc.weight)`` and hooks that change an output are none of that, and the
numbers of a way that cannot see them are too small without a word. So a few samples are taken both ways first.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from cl_nvrm.analysis.modules import listening
from cl_nvrm.errors import note

Way = TypeVar("Way", bound=Callable[..., Any])
Found = TypeVar("Found")
Numbers = Callable[[Way, Tensor], Sequence[Tensor]]
FEW = 8  # samples that are taken both ways
CLOSE = 1e-2  # of the norm of a tensor's numbers: more than rounding, kinks and ties ever make of them
TF32 = 2.0**-10  # what a GPU may round inputs of matrix products and convolutions to


class Ways(Generic[Way]):
    """Ways from the fastest to the last, which is right for any network and slow: one sample at a time."""

    def __init__(self, model: nn.Module, ways: Sequence[Way]) -> None:
        self.model, self.ways = model, list(ways)
        self._taken: Way | None = None

    def take(self, inputs: Tensor, numbers: Numbers[Way], go: Callable[[Way], Found]) -> Found:
        """Return ``go(way)`` for a batch of ``inputs`` (n, …), by the fastest way that agrees with the last.

        Which one that is, is found by the numbers ≥ 0 that ``numbers(way, few)`` returns of the first inputs of the
        first batch, and again if ``go`` raises on a later one. The user is told where it is the last, and where no
        single sample can be computed to compare with. The global random state is left as it was.
        """
        while True:
            if self._taken is None:
                self._taken = self._right(inputs, numbers)
            try:
                with _warnings_of_vmap_unheard():
                    return go(self._taken)
            except Exception:
                if self._taken is self.ways[-1]:
                    raise
                self.ways, self._taken = self.ways[self.ways.index(self._taken) + 1 :], None

    def _right(self, inputs: Tensor, numbers: Numbers[Way]) -> Way:
        *faster, alone = self.ways
        if not faster:
            return alone
        few, name = inputs[:FEW], type(getattr(self.model, "network", self.model)).__name__

        def of(way: Way, samples: Tensor, seed: int = 0) -> list[Tensor]:
            with torch.random.fork_rng(devices=[few.device] if few.is_cuda else []), _warnings_of_vmap_unheard():
                torch.manual_seed(seed)
                return [tensor.detach().double() for tensor in numbers(way, samples)]

        try:
            with _number_formats(self.model) as formats:
                expected = of(alone, few)
        except Exception as problem:
            for way in faster:
                with suppress(Exception):
                    of(way, few)
                    _tell_once(f"{name} takes no single sample, so its gradients are unchecked ({problem})")
                    return way
            raise
        eps = max([torch.finfo(dtype).eps for dtype in formats] + [TF32] * _coarse_products(inputs))

        def right(way: Way) -> bool:
            if _agree(of(way, few), expected, eps):
                return True
            # Where the network draws random numbers, only one and the same sample sees the same of them both ways.
            random = not _agree(of(alone, few, seed=1), expected, eps)
            return random and _agree(of(way, few[:1]), of(alone, few[:1]), eps)

        for way in faster:
            with suppress(Exception):  # of any kind, as layers are
                if right(way):
                    return way
        _tell_once(f"the gradients of {name} are taken one sample at a time, which is slow")
        return alone


def _agree(found: Sequence[Tensor], expected: Sequence[Tensor], eps: float) -> bool:
    """Whether each tensor is close to the one expected, by its own norm, and where that is rounding by the largest."""
    norms = [float(tensor.norm()) for tensor in expected]
    floor = (16 * eps) ** 2 * max(norms, default=0.0)
    bounds = [max(CLOSE, 16 * eps) * norm + floor for norm in norms]
    gaps = [float((a - b).norm()) for a, b in zip(found, expected, strict=True)]
    return not any(gap > bound for gap, bound in zip(gaps, bounds, strict=True))  # numbers that are none are equal


@contextmanager
def _number_formats(model: nn.Module) -> Iterator[set[torch.dtype]]:
    """Collect the number formats of what layers return for the length of a ``with`` block."""
    found = {p.dtype for p in model.parameters() if p.is_floating_point()}

    def hear(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.is_floating_point():
            found.add(output.dtype)

    with listening((module, hear) for module in model.modules()):
        yield found


def _coarse_products(inputs: Tensor) -> bool:
    return inputs.device.type != "cpu" or torch.get_float32_matmul_precision() != "highest"


@contextmanager
def _warnings_of_vmap_unheard() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")  # still faster than one by one
        yield


@cache
def _tell_once(line: str) -> None:
    note(line)
