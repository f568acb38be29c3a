"""Two-layer networks, and of which of their fits it is known that they are simple: ReLU on the line, and one point.

After Blanc, Gupta, Valiant and Valiant, COLT 2020 (arXiv 1904.09080), whose sizes could not be had. Each is a
``Problem`` of ``training``; gradients are written out, which is several times faster at these sizes.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

from cl_nvrm.study.implicit.training import Pull, per_trial


@dataclass(frozen=True)
class ReLULine:
    """h(x) = Σ_j c_j relu(a_j x + b_j) on nine points of a zigzag: simple is straight between collinear points.

    Three points in a row have the slope 2, three -2, three 2, so that a function through them changes its convexity at
    least once. It starts from the zigzag with a tent in each gap between collinear points, of Gaussian height with the
    standard deviation ``height``, and ``spare`` units that add nothing yet.
    """

    height: float = 0.15
    spare: int = 8
    trials: int = 5
    x: ClassVar[Tensor] = torch.linspace(-1, 1, 9, dtype=torch.double)
    BEND: ClassVar[float] = 0.375  # the zigzag has its own bends half way between points, at ± this
    REACH: ClassVar[float] = 0.15  # collinear points are further from it; a kink at such a point is not between two

    @property
    def units(self) -> int:
        """The width: one for the constant, three for the zigzag, three for each of six tents, and the spare ones."""
        return 22 + self.spare

    @classmethod
    def truth(cls, x: Tensor) -> Tensor:
        """Return the zigzag at x."""
        shift = 2 * cls.BEND
        return torch.where(x < -cls.BEND, 2 * (x + shift), torch.where(x > cls.BEND, 2 * (x - shift), -2 * x))

    @cached_property
    def labels(self) -> Tensor:
        """The zigzag at the nine points (trials, 9)."""
        return self.truth(self.x).repeat(self.trials, 1)

    def start(self) -> Tensor:
        """Return units (a, b, c) that fit, with |a| = |c| where they add something."""
        left, half = self.x[[0, 1, 3, 4, 6, 7]], float(self.x[1] - self.x[0]) / 2
        places = torch.cat([torch.tensor([-1.25, -self.BEND, self.BEND]), *(left + k * half for k in range(3))])

        def draw(generator: torch.Generator) -> Tensor:
            up = self.height / half * torch.randn(len(left), dtype=torch.double, generator=generator)
            bends = torch.cat([torch.tensor([2.0, -4.0, 4.0]), up, -2 * up, up])
            slopes, where = torch.randn(2, self.spare, dtype=torch.double, generator=generator)
            a = bends.abs().sqrt()
            one, nothing = torch.ones(1, dtype=torch.double), torch.zeros_like(slopes)
            rows = (0 * one, a, slopes), (one, -a * places, -slopes * where), (-one, a * bends.sign(), nothing)
            return torch.cat([part for row in rows for part in row])

        return per_trial(self.trials, draw)

    def at(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return h (trials, points) at other points."""
        active, c = self._active(theta, x)
        return torch.bmm(active, c.mT)[:, :, 0]

    def linearised(self, theta: Tensor) -> tuple[Tensor, Pull]:
        """Return h at the nine points, and r ↦ Σ r_i (c x_i 1, c 1, relu) with 1 where a unit is active."""
        active, c = self._active(theta, self.x)

        def pull(r: Tensor) -> Tensor:
            through = torch.where(active > 0, r[:, :, None], 0.0)
            return torch.cat([((_rows(self.x) @ through) * c).flatten(1), torch.bmm(r[:, None], active)[:, 0]], 1)

        return torch.bmm(active, c.mT)[:, :, 0], pull

    def regulariser(self, theta: Tensor) -> Tensor:
        """Return (1/n) Σ relu² + c² 1 (x² + 1)."""
        active, c = self._active(theta, self.x)
        slopes = c.square() * (active > 0) * (self.x.square() + 1)[:, None]
        return (active.square() + slopes).sum(2).mean(1)

    def error(self, theta: Tensor) -> Tensor:
        """Return by how much the slope of h changes, up and down, between collinear points."""
        x, change = self._changes(theta)
        return change.abs()[:, (x.abs() - self.BEND).abs() > self.REACH].sum(1)

    def distance(self, theta: Tensor) -> Tensor:
        """Return the root mean square distance of h from the zigzag between collinear points (trials,)."""
        x = torch.linspace(-1, 1, 801, dtype=torch.double)
        x = x[(x.abs() - self.BEND).abs() >= float(self.x[1] - self.x[0]) / 2]
        return (self.at(theta, x) - self.truth(x)).square().mean(1).sqrt()

    def convexity_changes(self, theta: Tensor, tolerance: float = 0.1) -> Tensor:
        """Return how often a bend of more than ``tolerance`` follows one the other way, between the outer points."""
        signs = (one[one.abs() > tolerance].sign() for one in self._changes(theta)[1])
        return torch.tensor([int((one[1:] != one[:-1]).sum()) for one in signs])

    def _active(self, theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """relu(a x + b) (trials, points, units), and c (trials, 1, units)."""
        parts = theta.unflatten(1, (3, self.units))
        return (_rows(x).mT @ parts[:, :2]).clamp_(min=0), parts[:, 2:]

    def _changes(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Changes of the slope of h from one hundredth of the interval to the next, and where."""
        x = torch.linspace(-1, 1, 101, dtype=torch.double)
        return x[1:-1], (self.at(theta, x).diff(dim=1) / x.diff()).diff(dim=1)


@dataclass(frozen=True)
class OnePoint:
    """h = Σ_j c_j s(w_j · x) on one point x (d,) of length 1: simple is at most two kinds of units, not counting 0."""

    width: int = 12
    d: int = 4
    y: float = 2.0
    activation: Literal["tanh", "sigmoid"] = "tanh"
    trials: int = 5

    @cached_property
    def _drawn(self) -> Tensor:
        numbers = self.d + self.width * (self.d + 1)
        return per_trial(self.trials, lambda g: torch.randn(numbers, dtype=torch.double, generator=g))

    @cached_property
    def _x(self) -> Tensor:
        x = self._drawn[:, : self.d]
        return x / x.square().sum(1, keepdim=True).sqrt()

    @cached_property
    def labels(self) -> Tensor:
        """y (trials, 1)."""
        return torch.full((self.trials, 1), self.y, dtype=torch.double)

    def start(self) -> Tensor:
        """Return Gaussian w, then c."""
        return self._drawn[:, self.d :]

    def linearised(self, theta: Tensor) -> tuple[Tensor, Pull]:
        """Return h, and r ↦ r (c_j s'_j x, s_j)."""
        s, slope, c = self._parts(theta)

        def pull(r: Tensor) -> Tensor:
            return torch.cat([((r * c * slope)[:, :, None] * self._x[:, None]).flatten(1), r * s], 1)

        return (s * c).sum(1, keepdim=True), pull

    def regulariser(self, theta: Tensor) -> Tensor:
        """Return Σ s² + c² s'²."""
        s, slope, c = self._parts(theta)
        return (s.square() + (c * slope).square()).sum(1)

    def error(self, theta: Tensor) -> Tensor:
        """Return the number of kinds beyond two."""
        return (self.kinds(theta) - 2).clamp(min=0).double()

    def kinds(self, theta: Tensor, tolerance: float = 0.05) -> Tensor:
        """Return how many different units (s, c) there are, up to ``tolerance`` and but for those at 0 (trials,)."""
        counts = []
        for points in self.pairs(theta):
            left, count = points[points.norm(dim=1) > tolerance], 0
            while len(left):
                left, count = left[(left - left[0]).norm(dim=1) > tolerance], count + 1
            counts.append(count)
        return torch.tensor(counts)

    def pairs(self, theta: Tensor) -> Tensor:
        """Return (s_j, c_j) as (trials, width, 2); a tanh unit counts as its mirror image (-s, -c), with s ≥ 0."""
        s, _, c = self._parts(theta)
        sign = torch.where(s < 0, -1.0, 1.0)
        return torch.stack([s * sign, c * sign], 2)

    def _parts(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """s, s' and c, (trials, width) each."""
        w, c = theta[:, : -self.width].unflatten(1, (self.width, self.d)), theta[:, -self.width :]
        at = torch.bmm(w, self._x[:, :, None])[:, :, 0]
        s = at.tanh() if self.activation == "tanh" else at.sigmoid()
        return s, 1 - s.square() if self.activation == "tanh" else s * (1 - s), c


def _rows(x: Tensor) -> Tensor:
    """(x, 1) as (2, points)."""
    return torch.stack([x, torch.ones_like(x)])
