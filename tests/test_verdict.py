"""When our runs agree with a published number."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_ind_from_stats

from cl_nvrm.analysis.verdict import Published, compared

TEN = Published(97.7, 0.81, 10)


def around(mean, deviation, count):
    """Values with exactly this mean and standard deviation."""
    z = np.arange(count) - (count - 1) / 2
    return list(mean + deviation * z / z.std(ddof=1))


@pytest.mark.parametrize(("deviation", "count"), [(0.5, 5), (2.0, 3), (0.81, 10)])
def test_the_interval_is_welchs(deviation, count):
    ours = around(96.0, deviation, count)
    found = compared(ours, TEN)
    test = ttest_ind_from_stats(96.0, deviation, count, 97.7, 0.81, 10, equal_var=False)
    interval = test.confidence_interval(0.99) if hasattr(test, "confidence_interval") else None
    if interval is None:
        se = math.sqrt(deviation**2 / count + 0.81**2 / 10)
        assert found.difference / se == pytest.approx(test.statistic)
    assert found.difference == pytest.approx(-1.7)
    assert found.low + found.high == pytest.approx(2 * found.difference)
    assert (found.low <= 0 <= found.high) == (test.pvalue >= 0.01)


@pytest.mark.parametrize(
    ("ours", "published", "word"),
    [
        (around(97.5, 0.5, 5), TEN, "agrees"),
        (around(95.0, 0.5, 5), TEN, "differs"),
        (around(99.9, 0.1, 5), TEN, "differs"),  # better is a difference, too
        (around(98.5, 0.1, 5), Published(97.7, 0.05, 10), "agrees"),  # significant, and within the margin
        (around(97.7, 3.0, 3), TEN, "too few seeds"),
        (around(80.0, 9.0, 5), Published(68.6, 6.85, 10), "too few seeds"),
        (around(66.0, 5.0, 5), Published(68.6, 6.85, 10), "agrees"),
        ([77.9], Published(77.4, None, 1), "agrees"),
        ([80.0], Published(77.4, None, 1), "differs"),
        ([97.7], TEN, "too few seeds"),
        ([97.7, 97.8], TEN, "too few seeds"),
        ([90.0, 90.1], TEN, "too few seeds"),
        ([77.9, 78.0], Published(77.4, None, 1), "agrees"),
        ([80.0, 80.1], Published(77.4, None, 1), "differs"),
        (around(79.0, 0.1, 3), Published(77.4, None, 1), "agrees"),
        (around(81.0, 0.2, 3), Published(77.4, None, 1), "differs"),
        ([19.9] * 3, Published(19.9, 0.0, 20), "agrees"),
        ([25.0] * 3, Published(19.9, 0.0, 20), "differs"),
    ],
)
def test_words(ours, published, word):
    assert compared(ours, published).word == word


@pytest.mark.parametrize(("off", "word"), [(0.0, "agrees"), (6.0, "agrees"), (12.0, "differs")])
def test_a_single_published_run_can_be_told_from_ours_by_enough_seeds(off, word):
    """Of our deviation 3, one more run lies within 2.6 of these, 7.7 points, in 99 cases of a hundred."""
    one = Published(57.4, None, 1)
    assert compared(around(57.4 + off, 3.0, 50), one).word == word
    few = compared(around(57.4, 3.0, 3), one)
    assert few.word == "too few seeds" and compared(around(57.4, 3.0, few.seeds_needed), one).word == "agrees"


def test_what_is_no_number_is_refused():
    with pytest.raises(ValueError, match="finite"):
        compared([97.0, math.nan, 97.0], TEN)


def test_fewer_than_three_seeds_never_do():
    assert compared([97.7], Published(97.7, 0.01, 10)).seeds_needed == 3
    assert compared([97.7, 97.71], Published(97.7, 0.01, 10)).seeds_needed == 3


@pytest.mark.parametrize(
    ("ours", "close"), [(around(97.5, 0.2, 5), True), (around(97.5, 0.8, 5), False), (around(95.0, 0.1, 5), False)]
)
def test_close_is_a_whole_interval_within_the_margin(ours, close):
    found = compared(ours, Published(97.7, 0.2, 10))
    assert found.close is close
    assert found.close == (found.word == "agrees" and found.low >= -1 and found.high <= 1)


def test_the_seeds_needed_are_enough_and_one_less_is_not():
    ours = around(97.7, 3.0, 3)
    needed = compared(ours, TEN).seeds_needed
    assert compared(around(97.7, 3.0, needed), TEN).word == "agrees"
    assert compared(around(97.7, 3.0, needed - 1), TEN).word == "too few seeds"


@pytest.mark.parametrize("deviation", [0.1, 0.8, 3.0])
def test_equal_truths_differ_in_no_more_than_one_comparison_of_a_hundred(deviation):
    draws = np.random.default_rng(0)
    words = []
    for _ in range(2000):
        theirs, ours = draws.normal(97, deviation, 10), draws.normal(97, deviation, 5)
        words.append(compared(list(ours), Published(theirs.mean(), theirs.std(ddof=1), 10)).word)
    assert words.count("differs") <= 0.016 * 2000  # 0.01 and three standard errors


def test_three_points_and_three_deviations_are_seen():
    draws = np.random.default_rng(0)
    found = [compared(list(draws.normal(94.0, 0.8, 5)), TEN).word for _ in range(500)]
    assert found.count("differs") > 0.9 * 500
