"""PAC-Bayes: theorem 2.2 of Xie et al. 2021, a bound on the population loss under weight noise, in numbers.

Prior N(0, σ²I), posterior N(θ, b²I), N weights, m training samples. With probability at least 1 - Δ over these,

    E L(θ+ξ) ≤ L̂(θ) + δ + 4 √[(KL + ln(2m/Δ)) / m],    KL = ‖θ‖² / 2σ² + γ(b),    γ(b) = N/2 (b²/σ² + ln(σ²/b²) - 1)

for a loss in [0, 1] such as the share of wrong answers; cross-entropy is none. L̂ is the training loss, and δ bounds
its change under the noise (definition 1). σ and b must not be chosen by looking at the training samples.

The root is McAllester's (PAC-Bayesian model averaging, COLT 1999) in the form of Neyshabur et al. (Exploring
generalization in deep learning, NeurIPS 2017, equation 7). KL is algebra; the constant 4 and the logarithm beside KL
are recalled, not seen in print. For networks the bound is vacuous by far; what it can say is which way b moves it.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

from cl_nvrm.analysis.noisy_evaluation import Loader, Loss
from cl_nvrm.analysis.robustness import error_rate, neural_variability
from cl_nvrm.errors import UserError


@dataclass(frozen=True)
class Bound:
    """The terms of the bound, all in units of the loss but ``kl``, in nats; ``failure`` is the probability Δ."""

    empirical_risk: float
    delta: float
    kl: float
    root: float
    b: float
    sigma: float
    weights: int
    samples: int
    failure: float

    @property
    def total(self) -> float:
        """The bound: empirical risk, δ and the square root."""
        return self.empirical_risk + self.delta + self.root

    @property
    def vacuous(self) -> bool:
        """Whether it says nothing: a loss in [0, 1] is at most 1 anyway."""
        return self.total >= 1

    @property
    def sentence(self) -> str:
        """What the number means, in words."""
        if self.vacuous:
            return (
                f"vacuous: the bound is {self.total:.3g}, and a loss in [0, 1], such as the share of wrong answers, "
                "is at most 1 with any weights"
            )
        return (
            f"with probability at least {1 - self.failure:g} over the training samples, the mean over weight noise of "
            f"scale {self.b:g} of the population loss, in [0, 1], is at most {self.total:.3g}"
        )


def prior_scale(weight_decay: float) -> float:
    """Return σ, with σ² the inverse of the weight decay (Xie et al. 2021, after theorem 2.2).

    >>> prior_scale(0.25)
    2.0
    """
    return 1 / math.sqrt(_positive("weight_decay", weight_decay))


def gamma(b: float, sigma: float, weights: int) -> float:
    """Return γ(b) in nats, the part of KL that θ has no part in: falls with b on (0, σ), and is 0, the least, at σ."""
    ratio = _positive("b", b) / _positive("sigma", sigma)
    # Not ratio² - 1: near σ that would cancel, and N is a factor of millions.
    return _positive("weights", weights) * ((ratio - 1) * (ratio + 1) / 2 - math.log(ratio))


def gamma_slope(b: float, sigma: float, weights: int) -> float:
    """Return dγ/db = N (b/σ² - 1/b)."""
    ratio = _positive("b", b) / _positive("sigma", sigma)
    return _positive("weights", weights) * (ratio - 1) * (ratio + 1) / b


def kl(theta_norm_sq: float, b: float, sigma: float, weights: int) -> float:
    """Return KL(N(θ, b²I) ‖ N(0, σ²I)) in nats, of ‖θ‖² and the number of weights.

    >>> kl(8.0, b=2.0, sigma=2.0, weights=1000)  # one variance: only the means differ, 8 / (2 · 4)
    1.0
    """
    if not (math.isfinite(theta_norm_sq) and theta_norm_sq >= 0):
        raise UserError(f"theta_norm_sq must be a finite number of at least 0, got {theta_norm_sq}")
    return gamma(b, sigma, weights) + theta_norm_sq / sigma**2 / 2


def bound(
    empirical_risk: float,
    delta: float,
    *,
    theta_norm_sq: float,
    b: float,
    sigma: float,
    weights: int,
    samples: int,
    failure: float = 0.05,
) -> Bound:
    """Return the bound of theorem 2.2 and its terms; UserError for a risk that no loss in [0, 1] has.

    >>> found = bound(0.1, 0.0, theta_norm_sq=0.0, b=1.0, sigma=1.0, weights=10, samples=10**6)
    >>> found.kl, round(found.total, 4), found.vacuous  # 0.1 + 4 √(ln(2·10⁶ / 0.05) / 10⁶)
    (0.0, 0.1167, False)
    """
    if not 0 <= empirical_risk <= 1:
        raise UserError(f"the theorem is about losses in [0, 1], such as error_rate; got a risk of {empirical_risk:g}")
    if not delta >= 0:
        raise UserError(f"delta must be at least 0, got {delta}")
    if not 0 < failure < 1:
        raise UserError(f"failure must be a probability between 0 and 1, got {failure}")
    divergence = kl(theta_norm_sq, b, sigma, weights)
    root = 4 * math.sqrt((divergence + math.log(2 * _positive("samples", samples) / failure)) / samples)
    return Bound(empirical_risk, delta, divergence, root, b, sigma, weights, samples, failure)


def of_model(
    model: nn.Module,
    train_loader: Loader,
    b: float,
    weight_decay: float,
    *,
    draws: int = 10,
    seed: int = 0,
    loss: Loss = error_rate,
    failure: float = 0.05,
    at_once: int = 1,
) -> Bound:
    """Return the bound for a model, from its training samples; arguments as for ``robustness.perturbed``.

    θ is all distinct trainable weights, σ² = 1 / ``weight_decay``, and δ the estimate from that many draws: to be safe
    rather than right on average, pass the upper end of ``Variability.interval`` to ``bound``. ``loss`` has to lie in
    [0, 1] for every sample.
    """
    sigma = prior_scale(weight_decay)
    found = neural_variability(
        model, train_loader, _positive("b", b), draws=draws, seed=seed, loss=loss, at_once=at_once
    )
    theta_norm_sq, weights = _size(model)
    return bound(
        found.sharpness.clean,
        found.delta,
        theta_norm_sq=theta_norm_sq,
        b=b,
        sigma=sigma,
        weights=weights,
        samples=found.sharpness.samples,
        failure=failure,
    )


@torch.no_grad()
def _size(model: nn.Module) -> tuple[float, int]:
    """Return ‖θ‖² and N; weights that share their storage count once, as they get one draw of noise."""
    distinct = {(p.data_ptr(), p.numel()): p for p in model.parameters() if p.requires_grad}.values()
    return sum(float(p.double().square().sum()) for p in distinct), sum(p.numel() for p in distinct)


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{name} must be a finite number above 0, got {value}")
    return value
