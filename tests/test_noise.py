import math

import pytest
import torch
from scipy import stats

from cl_nvrm.errors import UserError
from cl_nvrm.noise import Gaussian, Laplace, Uniform, law

LAWS = [Gaussian(), Laplace(), Laplace("matched"), Uniform(), Uniform("matched")]


def draws(noise, size=400_000, seed=0):
    return noise.draw_(torch.empty(size), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("noise", LAWS, ids=str)
def test_the_draws_follow_their_law(noise):
    expected = {
        Gaussian(): stats.norm(),
        Laplace(): stats.laplace(),
        Laplace("matched"): stats.laplace(scale=math.sqrt(0.5)),
        Uniform(): stats.uniform(-1, 2),
        Uniform("matched"): stats.uniform(-math.sqrt(3), 2 * math.sqrt(3)),
    }[noise]
    assert stats.kstest(draws(noise).double().numpy(), expected.cdf).pvalue > 1e-4
    assert noise.variance == pytest.approx(expected.var())


@pytest.mark.parametrize("noise", LAWS, ids=str)
def test_neighbouring_draws_are_uncorrelated(noise):
    x = draws(noise)
    correlation = float((x[1:] * x[:-1]).mean()) / noise.variance
    assert abs(correlation) < 5 / math.sqrt(len(x))


def test_the_raw_scale_is_the_published_one_and_the_matched_scale_has_equal_variances():
    names = ("gaussian", "laplace", "uniform")
    assert [law(name).variance for name in names] == pytest.approx([1, 2, 1 / 3])
    assert [law(name, "matched").variance for name in names] == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("noise", LAWS, ids=str)
def test_a_seed_gives_the_same_draws_and_another_seed_others(noise):
    assert torch.equal(draws(noise, 100), draws(noise, 100))
    assert not torch.equal(draws(noise, 100), draws(noise, 100, seed=1))


def test_an_unknown_law_is_named_beside_the_known_ones():
    with pytest.raises(UserError, match="'cauchy'; there are gaussian, laplace, uniform"):
        law("cauchy")
    with pytest.raises(UserError, match="raw, matched"):
        law("gaussian", "huge")
