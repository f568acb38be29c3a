"""What label noise does to weights that fit already: small regressions, several trials of each side by side.

Blanc, Gupta, Valiant and Valiant, COLT 2020 (arXiv 1904.09080). Their sizes, step sizes and law of the noise could not
be had; those here are ours. Weights are (trials, weights), outputs (trials, n), all in double precision.

The loss is (1/2n) Σ_i (h(x_i, θ) - y_i)², its gradient (1/n) Jᵀr with residuals r. Fresh noise of variance σ² on all n
labels acts, in time ~ n/(η²σ²) steps, as (η σ²/4n) reg(θ) added to the loss, reg(θ) = (1/n) ‖J‖², and keeps the loss
itself at a floor of the order of η σ²: read final values off after steps without noise, or after smaller ones.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from cl_nvrm.errors import UserError

Noise = Literal["fresh", "none", "fixed", "weights"]
Law = Literal["gaussian", "rademacher"]
At = Literal["all", "one"]
Pull = Callable[[Tensor], Tensor]
CHUNK = 256  # steps whose noise is drawn at once


class Problem(Protocol):
    """A regression, in trials that differ in their data and where they start."""

    @property
    def trials(self) -> int:
        """How many there are; trial k is the same in any number of them."""

    @property
    def labels(self) -> Tensor:
        """y (trials, n)."""

    def start(self) -> Tensor:
        """Return the weights before anything was trained."""

    def linearised(self, theta: Tensor) -> tuple[Tensor, Pull]:
        """Return h (trials, n), and what maps residuals r (trials, n) to Jᵀr (trials, weights)."""

    def regulariser(self, theta: Tensor) -> Tensor:
        """Return reg(θ) = (1/n) Σ_i ‖∇_θ h(x_i, θ)‖² (trials,)."""

    def error(self, theta: Tensor) -> Tensor:
        """Return how far the weights are from simple ones, which are at 0 (trials,)."""


@dataclass(frozen=True)
class Training:
    """How to train: ``steps`` of size ``eta`` under the noise, then ``settle`` more without.

    ``fresh`` noise of standard deviation ``sigma`` is label-noise SGD, ``fixed`` the same noise drawn once, and kept
    to the end. Of ``weights``, isotropic noise stays in the weights after each step, as long in the mean square as a
    step's label noise is at the start. ``at`` says whether ``all`` n labels have noise in a step or ``one``, drawn at
    random, n times as much, as if it were a batch by itself. ``drops`` are the shares of ``steps`` after which
    ``eta`` is divided by 10. With ``fit``, training starts from weights that fit the labels, so that noise is all that
    moves them. Measured is every so many steps.
    """

    noise: Noise = "fresh"
    eta: float = 0.01
    sigma: float = 1.0
    steps: int = 10000
    settle: int = 0
    law: Law = "gaussian"
    at: At = "all"
    drops: tuple[float, ...] = ()
    fit: bool = True
    every: int = 100

    def __post_init__(self) -> None:
        for name, kinds in (("noise", Noise), ("law", Law), ("at", At)):
            if getattr(self, name) not in get_args(kinds):
                raise UserError(f"{name} must be one of {', '.join(get_args(kinds))}, got '{getattr(self, name)}'")
        if not (self.eta > 0 and self.sigma >= 0 and min(self.steps, self.every) >= 1 and self.settle >= 0):
            raise UserError("eta, steps and every must be above 0, sigma and settle at least 0")

    def size(self, step: int) -> float:
        """Return the size of a step, which are counted from 1."""
        return self.eta * 0.1 ** sum(step > share * self.steps for share in self.drops)


@dataclass(frozen=True)
class Trajectory:
    """What was measured, at the ``step``s (k,) from 0 to the last: all else is (k, trials), but the weights at the end.

    ``loss`` is (1/2n) Σ (h - y)² against the labels without noise.
    """

    step: Tensor
    loss: Tensor
    regulariser: Tensor
    error: Tensor
    theta: Tensor


def train(problem: Problem, how: Training) -> Trajectory:
    """Train all trials; the noise of trial k depends on k alone."""
    theta = fitted(problem) if how.fit else problem.start()
    n, weights = problem.labels.shape[1], theta.shape[1]
    shape = (weights if how.noise == "weights" else n,)
    draws = chain.from_iterable(_noise(problem.trials, how, shape))
    # E‖Jᵀε/n‖² = σ² reg(θ)/n, or n times that with the noise at one label; each weight gets its share
    spread = how.sigma * (problem.regulariser(theta) / (n if how.at == "all" else 1) / weights).sqrt()[:, None]
    kept = how.sigma * next(draws) if how.noise == "fixed" else torch.zeros(())
    rows = [_measured(problem, theta)]
    steps = [0]
    for step in range(1, how.steps + how.settle + 1):
        eta, on = how.size(step), step <= how.steps
        noisy = on and how.noise == "fresh"
        theta = stepped(problem, theta, problem.labels + (how.sigma * next(draws) if noisy else kept), eta)
        if on and how.noise == "weights":
            theta = theta + eta * spread * next(draws)
        if step % how.every == 0 or step == how.steps + how.settle:
            steps.append(step)
            rows.append(_measured(problem, theta))
    loss, regulariser, error = (torch.stack(column) for column in zip(*rows, strict=True))
    return Trajectory(torch.tensor(steps), loss, regulariser, error, theta)


def stepped(problem: Problem, theta: Tensor, targets: Tensor, eta: float) -> Tensor:
    """Return the weights after one step down (1/2n) Σ (h - targets)²."""
    outputs, pull = problem.linearised(theta)
    return theta - (eta / targets.shape[1]) * pull(outputs - targets)


def fitted(problem: Problem, *, tolerance: float = 1e-10, most: int = 1000) -> Tensor:
    """Return weights near the start whose residuals are within the tolerance, by Levenberg and Marquardt's method.

    Its steps are as short as can be, so that little but the fit changes. RuntimeError after ``most`` of them.
    """
    theta, n = problem.start(), problem.labels.shape[1]
    eye = torch.eye(n, dtype=theta.dtype)
    damping = torch.ones(problem.trials, 1, 1, dtype=theta.dtype)
    outputs, pull = problem.linearised(theta)
    for _ in range(most):
        residuals = problem.labels - outputs
        if float(residuals.abs().max()) <= tolerance:
            return theta
        jacobian = torch.stack([pull(one.expand(problem.trials, n)) for one in eye], 1)
        kernel = jacobian @ jacobian.mT
        mean = kernel.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
        dual = torch.linalg.solve(kernel + damping * mean * eye, residuals[:, :, None])
        tried = theta + (jacobian.mT @ dual)[:, :, 0]
        after = (problem.linearised(tried)[0] - problem.labels).square().sum(1)
        better = after < residuals.square().sum(1)
        theta = torch.where(better[:, None], tried, theta)
        damping = damping * torch.where(better, 0.3, 3.0)[:, None, None]
        outputs, pull = problem.linearised(theta)
    raise RuntimeError(f"no weights that fit the labels were found in {most} steps; train with fit=False")


def per_trial(trials: int, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
    """Return what ``draw`` makes of each trial's own generator, (trials, …)."""
    return torch.stack([draw(torch.Generator().manual_seed(2 * trial)) for trial in range(trials)])


def _measured(problem: Problem, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    loss = 0.5 * (problem.linearised(theta)[0] - problem.labels).square().mean(1)
    return loss, problem.regulariser(theta), problem.error(theta)


def _noise(trials: int, how: Training, shape: tuple[int]) -> Iterator[Tensor]:
    """Yield the unit noise of ``CHUNK`` steps at a time, (CHUNK, trials, *shape)."""
    generators = [torch.Generator().manual_seed(2 * trial + 1) for trial in range(trials)]
    while True:
        yield torch.stack([_chunk(how, shape, generator) for generator in generators], 1)


def _chunk(how: Training, shape: tuple[int], generator: torch.Generator) -> Tensor:
    xi = torch.randn(CHUNK, *shape, dtype=torch.double, generator=generator)
    if how.noise == "weights":
        return xi
    if how.law == "rademacher":
        xi = xi.sign()
    if how.at == "one" and how.noise == "fresh":
        xi = xi * shape[0] * torch.eye(*shape)[torch.randint(*shape, (CHUNK,), generator=generator)]
    return xi
