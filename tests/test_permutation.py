import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from cl_nvrm.analysis.permutation import max_t_p, sign_flip_p


def by_hand(differences):
    total = abs(sum(differences))
    ways = list(itertools.product([1, -1], repeat=len(differences)))
    return sum(abs(sum(s * d for s, d in zip(w, differences, strict=True))) >= total - 1e-9 for w in ways) / len(ways)


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=8))
def test_the_permutation_test_counts_all_signs(differences):
    assert sign_flip_p(differences) == pytest.approx(by_hand(differences))


@pytest.mark.parametrize("images", [10_000, 2_000, 360])
def test_differences_of_a_few_images_are_as_equal_as_the_numbers_of_these(images):
    """Sums of fractions differ by rounding where those of whole numbers are equal, as many of small differences are."""
    generator = np.random.default_rng(0)
    for _ in range(200):
        counts = generator.integers(-3, 4, size=10)
        first = generator.integers(0, images - 3, size=10)
        differences = [(a + d) / images - a / images for a, d in zip(first.tolist(), counts.tolist(), strict=True)]
        assert sign_flip_p(differences) == by_hand(counts.tolist())


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_what_is_no_number_has_no_p(wrong):
    with pytest.raises(ValueError, match="finite"):
        sign_flip_p([0.1, wrong, 0.2])


def test_the_permutation_test_with_many_trials_agrees_with_scipy():
    differences = np.random.default_rng(0).normal(0.4, 1, size=30)
    expected = reference.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(1)
    ).pvalue
    assert sign_flip_p(differences) == pytest.approx(expected, abs=0.01)


def test_the_permutation_test_is_wrong_as_often_as_it_says():
    samples = np.random.default_rng(0).normal(0, 1, size=(2000, 8))
    assert 0.035 < np.mean([sign_flip_p(row) < 0.05 for row in samples]) < 0.06


def test_five_trials_cannot_reach_five_percent_and_six_can():
    assert sign_flip_p([1, 2, 3, 4, 5]) == 2 / 2**5 > 0.05 > sign_flip_p([1, 2, 3, 4, 5, 6])


def step_down_by_hand(rows):
    """Westfall and Young 1993, algorithm 2.8, in so many words."""
    norms = [math.sqrt(sum(d * d for d in row)) or 1.0 for row in rows]
    ways = list(itertools.product([1, -1], repeat=len(rows[0])))

    def statistic(k, way):
        return abs(sum(s * d for s, d in zip(way, rows[k], strict=True))) / norms[k]

    seen = [statistic(k, ways[0]) for k in range(len(rows))]
    order = sorted(range(len(rows)), key=lambda k: -seen[k])
    found, largest = {}, 0.0
    for place, k in enumerate(order):
        as_far = sum(max(statistic(j, way) for j in order[place:]) >= seen[k] - 1e-9 for way in ways)
        largest = max(largest, as_far / len(ways))
        found[k] = largest
    return [found[k] for k in range(len(rows))]


@given(st.integers(1, 6).flatmap(lambda n: st.lists(st.lists(st.integers(-5, 5), min_size=n, max_size=n), min_size=1)))
def test_many_rows_are_adjusted_as_by_hand(rows):
    assert max_t_p([dict(enumerate(row)) for row in rows]) == pytest.approx(step_down_by_hand(rows))


def test_rows_of_other_seeds_and_of_none_are_taken_as_they_are():
    row = {3: 1.0, 4: 2.0, 5: 3.0, 6: 1.0}
    alone, nothing = max_t_p([row, {}])
    assert alone == sign_flip_p(list(row.values())) and nothing == 1.0
    assert max_t_p([]) == [] and max_t_p([{}]) == [1.0]
    apart = max_t_p([row, {seed + 10: value for seed, value in row.items()}])
    assert apart == pytest.approx([1 - (1 - 1 / 8) ** 2] * 2), "two independent tests"


@pytest.mark.parametrize("n", [10, pytest.param(30, marks=pytest.mark.slow)])
@pytest.mark.parametrize("related", [0.0, 0.9])
def test_any_of_many_rows_is_found_wrongly_as_often_as_it_says(n, related):
    generator = np.random.default_rng(n)
    wrong = 0
    for _ in range(400):
        shared = generator.normal(size=(1, n))
        rows = math.sqrt(related) * shared + math.sqrt(1 - related) * generator.normal(size=(12, n))
        wrong += min(max_t_p([dict(enumerate(row)) for row in rows.tolist()])) < 0.05
    assert 0.03 < wrong / 400 < 0.075  # two standard deviations about 0.05
