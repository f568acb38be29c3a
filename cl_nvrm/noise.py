"""Weight-noise laws, Gaussian, Laplace and uniform at unit variability, and the streams their draws come from.

All three laws of Xie et al. (Neural Computation 2021, appendix C.1) take one number, the variability b. Their
published code uses b as the raw scale of each law, so that the variances are b², 2b² and b²/3; ``scale="matched"``
gives all three the variance b², which is what a comparison of *noise types* needs.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, get_args

import torch
from torch import Tensor

from cl_nvrm.errors import UserError
from cl_nvrm.kernels import draws

Scale = Literal["raw", "matched"]
Law = Literal["gaussian", "laplace", "uniform"]
Seed = int | tuple[int, ...]


class Noise(Protocol):
    """A law of independent, symmetric, zero-mean noise; multiply its draws by the variability b.

    This is all that a law of one's own needs. The three built-in ones are drawn faster on a CPU, by ``add_noise``.
    """

    @property
    def variance(self) -> float:
        """The variance of one draw at b = 1."""

    def draw_(self, out: Tensor, generator: torch.Generator) -> Tensor:
        """Fill ``out`` (any shape, floating point, the generator's device) with fresh draws at b = 1 and return it."""


@dataclass(frozen=True)
class Gaussian:
    """N(0, 1); the raw and the matched scale are the same."""

    scale: Scale = "raw"
    kernel: ClassVar[int] = draws.LAWS.index(draws.gaussian)

    @property
    def factor(self) -> float:
        """What the kernel's draws are multiplied by at b = 1."""
        return 1.0

    @property
    def variance(self) -> float:
        """1 in both conventions."""
        return 1.0

    def draw_(self, out: Tensor, generator: torch.Generator) -> Tensor:
        """Fill ``out`` with normal draws."""
        return out.normal_(generator=generator)


@dataclass(frozen=True)
class Laplace:
    """Laplace(0, 1), variance 2; matched: Laplace(0, 1/√2), variance 1."""

    scale: Scale = "raw"
    kernel: ClassVar[int] = draws.LAWS.index(draws.laplace)

    @property
    def factor(self) -> float:
        """What the kernel's draws are multiplied by at b = 1."""
        return 1.0 if self.scale == "raw" else math.sqrt(0.5)

    @property
    def variance(self) -> float:
        """2 at the raw scale, 1 at the matched one."""
        return 2.0 if self.scale == "raw" else 1.0

    def draw_(self, out: Tensor, generator: torch.Generator) -> Tensor:
        """Fill ``out`` with the difference of two exponential draws, which has exactly this law."""
        out.exponential_(generator=generator)
        out.sub_(torch.empty_like(out).exponential_(generator=generator))
        return out if self.scale == "raw" else out.mul_(self.factor)


@dataclass(frozen=True)
class Uniform:
    """U(-1, 1), variance 1/3; matched: U(-√3, √3), variance 1."""

    scale: Scale = "raw"
    kernel: ClassVar[int] = draws.LAWS.index(draws.uniform)

    @property
    def factor(self) -> float:
        """What the kernel's draws are multiplied by at b = 1."""
        return 1.0 if self.scale == "raw" else math.sqrt(3.0)

    @property
    def variance(self) -> float:
        """1/3 at the raw scale, 1 at the matched one."""
        return 1 / 3 if self.scale == "raw" else 1.0

    def draw_(self, out: Tensor, generator: torch.Generator) -> Tensor:
        """Fill ``out`` with uniform draws."""
        return out.uniform_(-self.factor, self.factor, generator=generator)


def law(name: str, scale: str = "raw") -> Noise:
    """Return the noise law of that name and scale convention; a UserError names the laws there are."""
    laws: dict[str, type[Gaussian] | type[Laplace] | type[Uniform]] = {
        "gaussian": Gaussian,
        "laplace": Laplace,
        "uniform": Uniform,
    }
    if name not in laws:
        raise UserError(f"No noise law '{name}'; there are {', '.join(laws)}")
    if scale not in get_args(Scale):
        raise UserError(f"No noise scale '{scale}'; there are {', '.join(get_args(Scale))}")
    return laws[name]("matched" if scale == "matched" else "raw")


class Stream:
    """A sequence of random draws that depends on the seed alone; with several seeds, one such sequence a trial.

    On a CPU, draw i is a function of the seed and i (``kernels.draws``): the same on any number of threads, and on
    any CPU. On other devices torch's generators are used, seeded alike; their draws are others.
    """

    def __init__(self, seed: Seed = 0) -> None:
        seeds = seed if isinstance(seed, tuple) else (seed,)
        # Seeds 0, 1, 2, … become keys that lie anywhere in 2⁶⁴, so that no stream runs into another one's numbers.
        self._keys = [draws.key(seed) for seed in seeds]
        self._seeds = seeds
        self._stacked = isinstance(seed, tuple)
        self._position = 0
        self._generators: dict[torch.device, list[torch.Generator]] = {}

    def add_noise(self, out: Tensor, clean: Tensor, noise: Noise, scale: float | Tensor) -> None:
        """Write ``clean`` + ``scale`` · draws into ``out``: contiguous, on the CPU, of one shape and floating type.

        With several seeds the leading axis of the tensors is the trial, and ``scale`` may have an entry for each.
        """
        outs, cleans = (out.unbind(), clean.unbind()) if self._stacked else ((out,), (clean,))
        scales = scale.expand(len(outs)).tolist() if isinstance(scale, Tensor) else [scale] * len(outs)
        kernel = getattr(noise, "kernel", None)
        for member, (one, rest, b) in enumerate(zip(outs, cleans, scales, strict=True)):
            if kernel is None:
                xi = noise.draw_(torch.empty_like(rest), self._generator(out.device, member))
                torch.add(rest, xi, alpha=b, out=one)
            else:
                draws.fill(kernel, one, rest, b * noise.factor, self._keys[member], self._position)  # type: ignore[attr-defined]
        if kernel is not None:
            self._position += -(-outs[0].numel() // 2)

    def draw_(self, out: Tensor, noise: Noise) -> Tensor:
        """Fill ``out``, on any device, with draws at b = 1 from torch's generators; leading axis as above."""
        for member, one in enumerate(out.unbind() if self._stacked else (out,)):
            noise.draw_(one, self._generator(out.device, member))
        return out

    def state_dict(self) -> dict[str, Any]:
        """Return what the next draws depend on, as plain values and tensors."""
        states = {str(device): [g.get_state() for g in made] for device, made in self._generators.items()}
        return {"keys": list(self._keys), "position": self._position, "generators": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken."""
        self._keys, self._position = list(state["keys"]), state["position"]
        self._generators = {}
        for name, states in state["generators"].items():
            for member, one in enumerate(states):
                self._generator(torch.device(name), member).set_state(one)

    def _generator(self, device: torch.device, member: int) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = [torch.Generator(device).manual_seed(seed) for seed in self._seeds]
        return self._generators[device][member]
