"""Regressions whose outputs are quadratic in the weights, and of whose fits it is known which are simple.

A product of two numbers and matrix sensing, after Blanc et al., COLT 2020 (arXiv 1904.09080); v∘v of HaoChen, Wei, Lee
and Ma, "Shape matters: understanding the implicit bias of the noise covariance", COLT 2021 (arXiv 2006.08680). Each is
a ``Problem`` of ``training``; gradients are written out, which is several times faster at these sizes.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cl_nvrm.study.implicit.training import Pull, per_trial


@dataclass(frozen=True)
class Product:
    """h = u v, one sample y ≠ 0: simple is |u| = |v|. Each step makes u² - v² exactly 1 - η² r² times what it was."""

    y: float = 1.0
    u: float = 2.0
    trials: int = 5

    @cached_property
    def labels(self) -> Tensor:
        """y (trials, 1)."""
        return torch.full((self.trials, 1), self.y, dtype=torch.double)

    def start(self) -> Tensor:
        """Return (u, y / u), which fits."""
        return torch.tensor([self.u, self.y / self.u], dtype=torch.double).repeat(self.trials, 1)

    def linearised(self, theta: Tensor) -> tuple[Tensor, Pull]:
        """Return u v, and r ↦ r (v, u)."""
        return theta.prod(1, keepdim=True), lambda r: r * theta.flip(1)

    def regulariser(self, theta: Tensor) -> Tensor:
        """Return u² + v², at least 2 |y| where u v = y."""
        return theta.square().sum(1)

    def error(self, theta: Tensor) -> Tensor:
        """Return |u² - v²|."""
        return (theta[:, 0].square() - theta[:, 1].square()).abs()


@dataclass(frozen=True)
class MatrixSensing:
    """h_i = ⟨A_i, U Uᵀ⟩, A_i symmetric Gaussian (d, d), and U (d, d): simple is the X of low rank behind the labels.

    On average over A, reg is 2 (d + 1) times the nuclear norm of U Uᵀ. X has the norm 1, and U starts at ``scale``
    times the identity, to which all directions are alike; a symmetric matrix has more entries than are measured.
    """

    d: int = 8
    rank: int = 1
    measurements: int = 24
    scale: float = 1.0
    trials: int = 5

    @cached_property
    def _drawn(self) -> Tensor:
        """Factors of X (rank, d), then the A (measurements, d, d) as one matrix (trials, rows, d)."""
        rows = self.rank + self.measurements * self.d
        return per_trial(self.trials, lambda g: torch.randn(rows, self.d, dtype=torch.double, generator=g))

    @cached_property
    def truth(self) -> Tensor:
        """X (trials, d, d)."""
        factors = self._drawn[:, : self.rank]
        x: Tensor = factors.mT @ factors
        return x / x.square().sum((1, 2), keepdim=True).sqrt()

    @cached_property
    def _sensing(self) -> Tensor:
        """A as (trials, measurements, d²)."""
        a = self._drawn[:, self.rank :].reshape(self.trials, self.measurements, self.d, self.d)
        return (a + a.mT).flatten(2) / 2

    @cached_property
    def _mean_square(self) -> Tensor:
        """(1/n) Σ A_i² (trials, d, d)."""
        a = self._sensing.view(self.trials, self.measurements, self.d, self.d)
        return (a @ a).mean(1)

    @cached_property
    def labels(self) -> Tensor:
        """⟨A_i, X⟩ (trials, measurements)."""
        return torch.bmm(self._sensing, self.truth.flatten(1)[:, :, None])[:, :, 0]

    def start(self) -> Tensor:
        """Return ``scale`` times the identity."""
        return (self.scale * torch.eye(self.d, dtype=torch.double)).flatten().repeat(self.trials, 1)

    def linearised(self, theta: Tensor) -> tuple[Tensor, Pull]:
        """Return ⟨A_i, U Uᵀ⟩, and r ↦ 2 (Σ r_i A_i) U."""
        u = theta.view(-1, self.d, self.d)

        def pull(r: Tensor) -> Tensor:
            combined = torch.bmm(r[:, None], self._sensing).view_as(u)
            return 2 * torch.bmm(combined, u).flatten(1)

        return torch.bmm(self._sensing, torch.bmm(u, u.mT).flatten(1)[:, :, None])[:, :, 0], pull

    def regulariser(self, theta: Tensor) -> Tensor:
        """Return (4/n) Σ ‖A_i U‖²."""
        u = theta.view(-1, self.d, self.d)
        return 4 * (u * (self._mean_square @ u)).sum((1, 2))

    def error(self, theta: Tensor) -> Tensor:
        """Return ‖U Uᵀ - X‖² / ‖X‖²."""
        u = theta.view(-1, self.d, self.d)
        return (u @ u.mT - self.truth).square().sum((1, 2))


@dataclass(frozen=True)
class SparseSquares:
    """h(x) = ⟨v∘v, x⟩ on Gaussian ``points``, their labels from a w (d,) of ``ones`` ones and else zeros: simple is w.

    In the authors' published run, d = 100, 5 ones and 40 points, ¼ (h - y)² has steps of 0.01, which are of 0.005 with
    our ½; σ is 1, at one label a step; 300,000 steps from v = 1 have drops at one and at two thirds.
    """

    d: int = 100
    ones: int = 5
    points: int = 40
    trials: int = 5

    @cached_property
    def _x(self) -> Tensor:
        return per_trial(self.trials, lambda g: torch.randn(self.points, self.d, dtype=torch.double, generator=g))

    @cached_property
    def _truth(self) -> Tensor:
        return (torch.arange(self.d) < self.ones).double()

    @cached_property
    def labels(self) -> Tensor:
        """⟨w, x⟩ (trials, points)."""
        return self._x @ self._truth

    def start(self) -> Tensor:
        """Return v = 1."""
        return torch.ones(self.trials, self.d, dtype=torch.double)

    def linearised(self, theta: Tensor) -> tuple[Tensor, Pull]:
        """Return ⟨v∘v, x⟩, and r ↦ 2 v∘(Σ r_i x_i)."""
        outputs = torch.bmm(self._x, theta.square()[:, :, None])[:, :, 0]
        return outputs, lambda r: 2 * theta * torch.bmm(r[:, None], self._x)[:, 0]

    def regulariser(self, theta: Tensor) -> Tensor:
        """Return (4/n) Σ ‖v∘x_i‖²."""
        return 4 * (theta.square() * self._x.square().mean(1)).sum(1)

    def error(self, theta: Tensor) -> Tensor:
        """Return ‖v∘v - w‖², the mean square error on new points."""
        return (theta.square() - self._truth).square().sum(1)
