"""Laws of weight noise: Gaussian, Laplace and uniform, at unit variability.

All three laws of Xie et al. (Neural Computation 2021, appendix C.1) take one number, the variability b. Their
published code uses b as the raw scale of each law, so that the variances are b², 2b² and b²/3; ``scale="matched"``
gives all three the variance b², which is what a comparison of *noise types* needs.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, get_args

import torch
from torch import Tensor

from cl_nvrm.errors import UserError

Scale = Literal["raw", "matched"]
Law = Literal["gaussian", "laplace", "uniform"]


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
    kernel: ClassVar[int] = 0  # its place in kernels.draws.LAWS, not looked up there: that imports numba

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
    kernel: ClassVar[int] = 1

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
    kernel: ClassVar[int] = 2

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
    """Return the noise law of that name and scale convention; a UserError names the laws there are.

    >>> law("laplace").variance, law("laplace", "matched").variance
    (2.0, 1.0)
    """
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
