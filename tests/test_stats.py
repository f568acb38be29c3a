import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from cl_nvrm.analysis import stats


@pytest.mark.parametrize("n", [5, 10])
@pytest.mark.parametrize("interval", [stats.t_interval, pytest.param(stats.bootstrap_interval, marks=pytest.mark.slow)])
def test_intervals_cover_the_mean_in_93_to_97_of_a_hundred_simulated_experiments(n, interval):
    samples = np.random.default_rng(n).normal(3.0, 2.0, size=(2000, n))
    covered = sum(low <= 3.0 <= high for low, high in map(interval, samples.tolist()))
    assert 0.93 <= covered / 2000 <= 0.97


@given(st.lists(st.sampled_from([0.1, 0.2, 0.1 + 1e-15, 0.3, 7.0]), min_size=5, max_size=12))
def test_the_bootstrap_interval_is_that_of_resamples_drawn_one_by_one(values):
    sample, n = np.array(values), len(values)
    mean, spread = sample.mean(), sample.std(ddof=1) / math.sqrt(n)
    drawn = np.random.default_rng(0).choice(sample, size=(stats.RESAMPLES, n))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (drawn.mean(axis=1) - mean) / (drawn.std(axis=1, ddof=1) / math.sqrt(n))
    alone = np.ptp(drawn, axis=1) <= stats.ROUNDING * sample.max()
    ratios[alone] = np.copysign(np.inf, drawn.mean(axis=1) - mean)[alone]
    low, high = np.quantile(ratios, [0.025, 0.975], method="nearest")
    if np.ptp(sample) <= stats.ROUNDING * sample.max():
        assert stats.bootstrap_interval(values) == (values[0], values[0])
    elif math.isfinite(low) and math.isfinite(high):
        assert stats.bootstrap_interval(values) == (mean - high * spread, mean - low * spread)  # to the bit
    else:
        assert stats.bootstrap_interval(values) is None


@pytest.mark.parametrize("n", [5, 10])
def test_intervals_of_paired_differences_cover_the_true_difference(n):
    generator = np.random.default_rng(n + 100)
    covered = 0
    for _ in range(2000):
        seeds = generator.normal(0, 5, size=n)  # what both strategies owe to the seed
        first, second = (dict(enumerate(seeds + generator.normal(mean, 1, size=n))) for mean in (2.0, 1.5))
        low, high = stats.t_interval([first[k] - second[k] for k in first])
        covered += low <= 0.5 <= high
    assert 0.93 <= covered / 2000 <= 0.97


def test_the_bootstrap_interval_follows_skew_and_repeats_itself():
    values = [0.0, 0.1, 0.1, 0.2, 3.0, 0.1]
    low, high = stats.bootstrap_interval(values)
    mean = np.mean(values)
    assert high - mean > 2 * (mean - low) > 0
    assert stats.bootstrap_interval(values) == (low, high)
    assert stats.bootstrap_interval([2.0] * 6) == (2.0, 2.0)
    assert stats.bootstrap_interval([1.0, 2.0, 3.0, 4.0]) is None
    assert stats.bootstrap_interval([1.0] * 9 + [0.9]) is None  # ties: it would reach to infinity
    first, second = (0.9475, 0.9488, 0.9501, 0.9453, 0.9496, 0.9475), (0.9463, 0.9478, 0.9491, 0.9441, 0.9486, 0.9465)
    differences = [a - b for a, b in zip(first, second, strict=True)]
    assert len(set(differences)) == 3 and stats.bootstrap_interval(differences) is None  # ties but for rounding


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=12), st.floats(0.1, 2))
def test_equivalence_is_a_ninety_percent_interval_within_the_margin(differences, margin):
    low, high = stats.t_interval(differences, 0.9)
    if min(abs(low + margin), abs(high - margin)) > 1e-6:
        assert (stats.equivalence_p(differences, margin) < 0.05) == (-margin < low and high < margin)


def test_equivalence_is_claimed_wrongly_as_often_as_it_says():
    """At a true difference of exactly the margin, where it is claimed most often."""
    samples = np.random.default_rng(0).normal(1.0, 0.8, size=(4000, 10))
    assert 0.04 < np.mean([stats.equivalence_p(row, 1.0) < 0.05 for row in samples.tolist()]) < 0.06
    assert stats.equivalence_p([0.0], 1.0) == 1.0 and stats.equivalence_p([0.2, 0.2], 0.1) == 1.0
    with pytest.raises(ValueError, match="margin"):
        stats.equivalence_p([0.1, 0.2], 0.0)


def test_holm_by_hand():
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([0.5, 0.9]) == [1.0, 1.0] and stats.holm([]) == []


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_needed_agree_with_published_tables(effect, n):
    # G*Power 3.1, t test of matched pairs, two-sided, power 0.8, level 0.05
    assert stats.seeds_needed(effect) == stats.seeds_needed(-effect) == n


def test_seeds_needed_are_enough_in_simulation():
    n = stats.seeds_needed(0.9)
    samples = np.random.default_rng(0).normal(0.9, 1, size=(4000, n))
    assert np.mean(reference.ttest_1samp(samples, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.03)
    assert stats.seeds_needed(0.0) is None and stats.seeds_needed(math.nan) is None


@pytest.mark.parametrize(("effect", "n"), [(1.0, 10), (0.5, 30), (-2.0, 6)])
def test_trials_are_planned_for_an_effect_that_four_of_five_true_ones_exceed(effect, n):
    least = stats.safeguard_effect(effect, n)
    above = reference.nct.sf(abs(effect) * math.sqrt(n), n - 1, least * math.sqrt(n))
    assert 0 < least < abs(effect) and above == pytest.approx(0.2, abs=1e-4)
    assert stats.safeguard_effect(0.05, n) == 0.0 and stats.safeguard_effect(math.inf, n) == math.inf


def test_planned_trials_find_the_effect_more_often_than_those_for_what_was_seen():
    """Of first experiments that look promising, the effect is mostly smaller than it looked."""
    generator = np.random.default_rng(0)
    power = {"seen": [], "safe": []}
    for _ in range(400):
        values = generator.normal(0.6, 1, size=10)
        seen = values.mean() / values.std(ddof=1)
        if reference.ttest_1samp(values, 0).pvalue > 0.05:
            continue
        for name, effect in (("seen", seen), ("safe", stats.safeguard_effect(seen, 10))):
            n = stats.seeds_needed(effect) or 10_000
            power[name].append(reference.nct.sf(reference.t.ppf(0.975, n - 1), n - 1, 0.6 * math.sqrt(n)))
    assert np.mean(power["seen"]) < 0.45 and np.mean(power["safe"]) > 0.65


def test_a_comparison_is_paired_and_on_common_seeds():
    first = {0: 0.5, 1: 0.7, 2: 0.9, 9: 0.1}
    second = {0: 0.4, 1: 0.5, 2: 0.8, 7: 0.0}
    found = stats.compare(first, second)
    assert found.n == 3 and found.mean == pytest.approx(0.4 / 3)
    assert found.t == pytest.approx(stats.t_interval([0.1, 0.2, 0.1]))
    raw = found.mean / np.std([0.1, 0.2, 0.1], ddof=1)
    assert found.effect == pytest.approx(raw * (1 - 3 / 7)) and found.bootstrap is None
    assert stats.compare({0: 1.0}, {1: 1.0}) is None
    two = stats.compare({0: 1.0, 1: 2.0}, {0: 0.0, 1: 0.5})
    assert two.effect is None and two.seeds_needed is None  # two differences do not tell how much they vary
    clear = stats.compare({s: 1 + 0.01 * s for s in range(8)}, dict.fromkeys(range(8), 0.0))
    assert clear.seeds_needed == 6  # fewer would do for a t test, but not for the exact one
    alike = stats.compare(first, first)
    assert alike.effect is None and alike.seeds_needed is None and alike.p == 1


def test_no_stars_with_fewer_than_five_trials():
    assert [stats.stars(p, 10) for p in (0.06, 0.04, 0.009, 0.0009)] == ["", "*", "**", "***"]
    assert stats.stars(1e-9, 4) == ""
