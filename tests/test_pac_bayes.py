import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from cl_nvrm.analysis import pac_bayes
from cl_nvrm.analysis.pac_bayes import bound, gamma, gamma_slope, kl, of_model, prior_scale
from cl_nvrm.errors import UserError

RESNET34 = 21_280_000
LABELS = torch.arange(50) % 3
BATCHES = list(
    zip(torch.randn(50, 8, generator=torch.Generator().manual_seed(1)).split(20), LABELS.split(20), strict=True)
)


def terms(**changed):
    given = {"theta_norm_sq": 4000.0, "b": 0.05, "sigma": 100.0, "weights": RESNET34, "samples": 50_000}
    return given | changed


@pytest.mark.parametrize(("b", "per_weight", "root"), [(0.05, 7.10, 220), (0.01, 8.71, 244)])
def test_a_resnet_34_has_the_numbers_worked_out_by_hand(b, per_weight, root):
    sigma = prior_scale(1e-4)
    assert sigma == pytest.approx(100)
    found = bound(0.0, 0.01, **terms(b=b, sigma=sigma))
    assert found.kl / RESNET34 == pytest.approx(per_weight, abs=0.005)
    assert found.root == pytest.approx(root, abs=0.5)
    assert found.total == found.empirical_risk + found.delta + found.root


@given(st.floats(1e-6, 1e4), st.integers(1, 2 * 10**7))
def test_gamma_is_zero_at_sigma_alone_and_never_below(sigma, weights):
    assert gamma(sigma, sigma, weights) == 0
    for factor in (1e-8, 0.5, 1 - 1e-7, 1 + 1e-7, 1 + 1e-14, 3.0):
        value = gamma(sigma * factor, sigma, weights)
        assert value >= 0
        if abs(factor - 1) > 1e-9:
            assert value > 0


@pytest.mark.parametrize("offset", [1e-3, 1e-5, 1e-7])
def test_gamma_does_not_cancel_near_sigma(offset):
    e = (100 * (1 + offset)) / 100 - 1  # the ratio as it is after rounding
    series = e**2 - e**3 / 3 + e**4 / 4
    assert gamma(100 * (1 + offset), 100.0, 20_000_000) == pytest.approx(2e7 * series, rel=1e-6)


@pytest.mark.parametrize("b", [1e-4, 0.01, 0.05, 1.0, 99.0, 100.0, 250.0])
def test_the_slope_is_that_of_finite_differences_and_of_the_formula(b):
    sigma, step = 100.0, b * 1e-5
    numeric = (gamma(b + step, sigma, 20_000_000) - gamma(b - step, sigma, 20_000_000)) / (2 * step)
    slope = gamma_slope(b, sigma, 20_000_000)
    assert slope == pytest.approx(2e7 * (b / sigma**2 - 1 / b), rel=1e-9, abs=1e-9)
    assert slope == pytest.approx(numeric, rel=1e-6, abs=1e-4)


def test_gamma_and_the_bound_fall_with_b_up_to_sigma_and_rise_beyond():
    scales = [0.001, 0.01, 0.1, 1.0, 50.0, 100.0, 150.0, 1000.0]
    for values in (
        [gamma(b, 100.0, RESNET34) for b in scales],
        [bound(0.1, 0.0, **terms(b=b)).total for b in scales],
    ):
        assert values.index(min(values)) == 5
        assert values[:6] == sorted(values[:6], reverse=True) and values[5:] == sorted(values[5:])


def test_kl_agrees_with_monte_carlo_and_with_torch():
    b, sigma, n = 0.3, 1.5, 40
    theta = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    posterior, prior = torch.distributions.Normal(theta, b), torch.distributions.Normal(torch.zeros_like(theta), sigma)
    found = kl(float(theta.square().sum()), b, sigma, n)
    assert found == pytest.approx(float(torch.distributions.kl_divergence(posterior, prior).sum()), rel=1e-12)
    drawn = theta + b * torch.randn(20_000, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ratios = (posterior.log_prob(drawn) - prior.log_prob(drawn)).sum(1)
    assert found == pytest.approx(float(ratios.mean()), abs=4 * float(ratios.std()) / math.sqrt(20_000))


def test_a_vacuous_bound_says_so_and_another_says_what_it_holds_for():
    vacuous = bound(0.0, 0.01, **terms())
    assert vacuous.vacuous and vacuous.sentence.startswith("vacuous: the bound is 220, and a loss in [0, 1]")
    found = bound(0.1, 0.02, **terms(weights=10, samples=10**7, theta_norm_sq=1.0), failure=0.01)
    assert not found.vacuous and 0.12 < found.total < 0.15
    assert found.sentence.startswith("with probability at least 0.99 ") and f"{found.total:.3g}" in found.sentence
    assert bound(1.0, 0.0, **terms(weights=10, samples=10**9)).vacuous


def test_less_certainty_or_more_samples_make_it_smaller():
    total = bound(0.1, 0.02, **terms()).total
    assert bound(0.1, 0.02, **terms(), failure=0.5).total < total > bound(0.1, 0.02, **terms(samples=60_000)).total


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"b": 0.0}, "b must be"),
        ({"sigma": 0.0}, "sigma must be"),
        ({"sigma": math.inf}, "sigma must be"),
        ({"samples": 0}, "samples must be"),
        ({"weights": 0}, "weights must be"),
        ({"theta_norm_sq": math.nan}, "theta_norm_sq"),
        ({"failure": 1.0}, "failure"),
        ({"delta": -0.1}, "delta"),
        ({"empirical_risk": 2.3}, r"\[0, 1\]"),
    ],
)
def test_what_the_theorem_does_not_cover_is_refused(changed, message):
    with pytest.raises(UserError, match=message):
        bound(**({"empirical_risk": 0.1, "delta": 0.0} | terms() | changed))


@pytest.mark.parametrize("weight_decay", [0.0, -1.0, math.nan])
def test_without_weight_decay_there_is_no_prior(weight_decay):
    with pytest.raises(UserError, match="weight_decay"):
        prior_scale(weight_decay)


def test_of_a_model_all_terms_come_from_its_weights_and_its_training_samples():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))
    model[2].weight.requires_grad_(False)
    found = of_model(model, BATCHES, 0.1, 5e-4, draws=5, failure=0.1)
    own = [p.detach().double() for p in model.parameters() if p.requires_grad]
    assert found.weights == sum(p.numel() for p in own) and found.samples == 50
    norm = sum(float(p.square().sum()) for p in own)
    assert found.kl == pytest.approx(kl(norm, 0.1, prior_scale(5e-4), found.weights))
    wrong = sum(int((model(x).argmax(1) != y).sum()) for x, y in BATCHES)
    assert found.empirical_risk == pytest.approx(wrong / 50) and 0 <= found.delta < 1
    assert found == bound(
        found.empirical_risk,
        found.delta,
        theta_norm_sq=norm,
        b=0.1,
        sigma=found.sigma,
        weights=found.weights,
        samples=50,
        failure=0.1,
    )


def test_shared_weights_count_once():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    model[2].weight = nn.Parameter(model[0].weight.data)  # another Parameter on the same storage
    norm, weights = pac_bayes._size(model)
    assert weights == 64 + 3 * 8
    assert norm == pytest.approx(
        sum(float(t.detach().double().square().sum()) for t in (model[0].weight, *(m.bias for m in model)))
    )


def test_cross_entropy_is_no_loss_for_the_theorem():
    model = nn.Linear(8, 3)
    nn.init.constant_(model.bias, 0.0)
    model.bias.data[0] = 9.0
    with pytest.raises(UserError, match="error_rate"):
        of_model(model, BATCHES, 0.01, 1e-4, loss=cross_entropy)
