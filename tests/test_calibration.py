import json
from pathlib import Path

import numpy as np
import pytest

from cl_nvrm.study import calibration
from cl_nvrm.study.calibration import CHECKED, KINDS, SEEDS, errors

FOLDER = Path(__file__).parent.parent / "reports" / "studies" / "calibration"
NUMBERS = json.loads((FOLDER / "small" / "numbers" / "intervals-and-stars.json").read_text())
STARS_ALIKE = [each.name for each in CHECKED if not each.covers and not each.name.startswith("mean")]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_have_mean_zero(kind):
    values = errors(kind, np.random.default_rng(0), (200_000,))
    assert abs(values.mean()) < 0.02 and (kind != "tied" or set(values % 1) == {0.0})
    assert (abs(((values - values.mean()) ** 3).mean()) > 1) == (kind in ("skewed", "collapsing"))


@pytest.mark.parametrize("name", [each.name for each in CHECKED if each.covers])
@pytest.mark.parametrize("n", SEEDS)
def test_every_interval_covers_in_93_to_97_of_a_hundred_normal_experiments(name, n):
    assert 0.93 <= NUMBERS[f"{name}, normal, n = {n}"] <= 0.97


@pytest.mark.parametrize("name", STARS_ALIKE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", SEEDS)
def test_at_most_six_of_a_hundred_stars_are_chance_whatever_the_data(name, kind, n):
    """And what 2,000 experiments may be off by: two standard errors."""
    assert NUMBERS[f"{name}, {kind}, n = {n}"] <= 0.06 + 2 * np.sqrt(0.06 * 0.94 / 2000)


@pytest.mark.parametrize("checked", CHECKED, ids=lambda each: each.name)
def test_the_stored_shares_are_those_that_are_simulated(checked, monkeypatch):
    """A hundred of the two thousand experiments, the first ones: within four standard errors."""
    for place, kind in enumerate(KINDS):
        generator = np.random.default_rng([CHECKED.index(checked), place, 10])
        wrong = sum(checked.wrong(kind, generator, 10) for _ in range(100)) / 100
        stored = NUMBERS[f"{checked.name}, {kind}, n = 10"]
        stored = 1 - stored if checked.covers else stored
        assert abs(wrong - stored) <= 4 * np.sqrt(max(stored, 0.01) * (1 - stored) / 100)


def test_the_page_shows_the_stored_numbers():
    text = (FOLDER / "README.md").read_text()
    for checked in CHECKED:
        shown = (", ".join(f"{100 * NUMBERS[f'{checked.name}, {kind}, n = {n}']:.1f}" for n in SEEDS) for kind in KINDS)
        assert f"| {checked.name} | {' | '.join(shown)} |" in text


def test_the_study_runs_through():
    calibration.TRIALS["once"] = 1
    found = calibration.numbers("once")
    assert found.keys() == NUMBERS.keys() and calibration.figure("once").axes
