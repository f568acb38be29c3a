"""The default source of noise: exact laws, no correlations, the same numbers everywhere."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import special, stats

from cl_nvrm.noise import Gaussian, Laplace, Stream, Uniform
from cl_nvrm.noise.kernels import draws, launch

LAWS = {"gaussian": stats.norm(), "laplace": stats.laplace(), "uniform": stats.uniform(-1, 2)}


def sample(law="gaussian", size=1_000_000, seed=0, start=0):
    out = torch.empty(size)
    draws.fill(list(LAWS).index(law), out, torch.zeros(size), 1.0, draws.key(seed), start)
    return out


@pytest.fixture
def threads():
    """Set the number of torch's threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def without_numba(monkeypatch):
    """Run the loops on numpy arrays, as where numba is not installed."""

    def switch():
        monkeypatch.setattr(draws, "numba", None)

    return switch


def test_the_bits_are_those_of_splitmix64():
    # The first outputs for seed 1234567, as several published implementations give them.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert draws.word(np.uint64(1234567), np.arange(4, dtype=np.uint64)).tolist() == expected


@pytest.mark.parametrize("count", [1_000_000, pytest.param(100_000_000, marks=pytest.mark.slow)])
def test_normal_draws_are_indistinguishable_from_the_exact_law(count):
    chunk, bins = count // 10, min(1 << 16, count // 1000)  # cells of a thousand draws and more
    key, zeros, out = draws.key(2021), torch.zeros(chunk), torch.empty(chunk)
    histogram, second, fourth, beyond = np.zeros(bins), 0.0, 0.0, np.zeros(3)
    for part in range(count // chunk):
        draws.fill(0, out, zeros, 1.0, key, part * chunk // 2)
        z = out.numpy()
        # In double precision: float32's own rounding of ndtr would show in cells as small as these.
        histogram += np.bincount(
            (special.ndtr(z.astype(float)) * bins).astype(np.int32).clip(0, bins - 1), minlength=bins
        )
        square = np.square(z, dtype=np.float64)
        second, fourth = second + square.sum(), fourth + np.dot(square, square)
        beyond += [np.count_nonzero(np.abs(z) > limit) for limit in (4, 5, 6)]
    # Kolmogorov and Smirnov's statistic over equally likely cells, at their edges
    distance = np.abs(np.cumsum(histogram) / count - np.arange(1, bins + 1) / bins).max()
    assert special.kolmogorov(distance * math.sqrt(count)) > 1e-3
    assert stats.chi2.sf(((histogram - count / bins) ** 2).sum() / (count / bins), bins - 1) > 1e-3
    assert abs(second / count - 1) < 4 * math.sqrt(2 / count)
    assert abs(fourth / count - 3) < 4 * math.sqrt(96 / count)
    for seen, limit in zip(beyond, (4, 5, 6), strict=True):
        expected = count * 2 * special.ndtr(-limit)
        assert stats.poisson.sf(seen - 1, expected) > 1e-4 and stats.poisson.cdf(seen, expected) > 1e-4


def test_the_tail_reaches_the_size_that_the_radius_allows():
    # The largest draw comes from a word whose lower 32 bits are 0 and whose angle lies next to an axis.
    for bits in (0x0000000000000000, 0x80000000_00000000):
        largest = max(float(np.abs(z[0])) for z in draws.gaussian(np.array([bits], dtype=np.uint64)))
        assert largest == pytest.approx(math.sqrt(-2 * math.log(0.5 / 2**32)), abs=1e-5)


@pytest.mark.parametrize("law", LAWS)
def test_the_draws_follow_their_law_and_its_fourth_moment(law):
    x = sample(law, 4_000_000).double()
    assert stats.kstest(x[:1_000_000].numpy(), LAWS[law].cdf).pvalue > 1e-3
    eighth, fourth = {"gaussian": (105, 3), "laplace": (math.factorial(8), 24), "uniform": (1 / 9, 1 / 5)}[law]
    assert abs(float((x**4).mean()) - fourth) < 4 * math.sqrt((eighth - fourth**2) / len(x))


@pytest.mark.parametrize("law", LAWS)
def test_each_draw_is_as_exact_as_float32_is(law):
    bits = draws.word(np.uint64(7), np.arange(200_000, dtype=np.uint64))
    low, high = bits & np.uint64(2**32 - 1), bits >> np.uint64(32)
    first, second = draws.LAWS[list(LAWS).index(law)](bits)
    if law == "gaussian":
        radius = np.sqrt(-2 * np.log((low + 0.5) / 2**32))
        np.testing.assert_allclose(np.hypot(first.astype(float), second), radius, rtol=2e-6, atol=3e-4)
    elif law == "laplace":
        for x, k in ((first, low), (second, high)):
            np.testing.assert_allclose(np.abs(x), -np.log(((k | np.uint64(1)) + 0.5) / 2**32), rtol=2e-6, atol=2e-7)
    else:
        assert max(abs(first).max(), abs(second).max()) <= 1


CORRELATED = {
    "neighbouring weights": lambda: (sample(size=4_000_001)[1:], sample(size=4_000_001)[:-1]),
    "weights two apart": lambda: (sample(size=4_000_002)[2:], sample(size=4_000_002)[:-2]),
    "weights a row apart": lambda: (sample(size=4_000_784)[784:], sample(size=4_000_784)[:-784]),
    "the two draws of a word": lambda: sample(size=8_000_000).chunk(2),
    "one step and the next": lambda: (sample(size=4_000_000), sample(size=4_000_000, start=2_000_000)),
    "a large layer and the next": lambda: (sample(size=4_000_000, start=401_408), sample(size=4_000_000, start=0)),
    "workers, seeds 0 and 1": lambda: (sample(size=4_000_000), sample(size=4_000_000, seed=1)),
    "seeds that differ in the highest bit": lambda: (sample(size=4_000_000), sample(size=4_000_000, seed=2**63)),
}


@pytest.mark.parametrize("pair", CORRELATED)
def test_no_correlation_between(pair):
    x, y = CORRELATED[pair]()
    bound = 4.5 / math.sqrt(len(x))
    assert abs(float((x.double() * y).mean())) < bound
    squares = float(((x.double() ** 2 - 1) * (y.double() ** 2 - 1)).mean()) / 2
    assert abs(squares) < bound
    assert abs(float((x.sign().double() * y.sign()).mean())) < bound


def test_many_streams_of_few_draws_are_as_independent_as_one_of_many():
    means = torch.stack([sample(size=1000, seed=seed).mean() for seed in range(2000)]) * math.sqrt(1000)
    assert stats.kstest(means.double().numpy(), stats.norm().cdf).pvalue > 1e-3


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("size", [1, 2, 3, 1000, 70_001, 300_000])
def test_any_number_of_threads_gives_the_same_bits(threads, law, size):
    seen = []
    for count in (1, 2, 3, 4):
        threads(count)
        seen.append(sample(law, size))
    assert all(torch.equal(one, seen[0]) for one in seen[1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("size", [1, 2, 17, 40_001])
def test_the_noise_is_the_same_without_numba(without_numba, law, dtype, size):
    clean = torch.randn(size, dtype=dtype)
    seen = []
    for _ in range(2):
        out = torch.empty_like(clean)
        draws.fill(list(LAWS).index(law), out, clean, 0.03, draws.key(3), 10)
        seen.append(out)
        without_numba()
    assert torch.equal(*seen)


@pytest.mark.parametrize(
    ("start", "environment"),
    [
        pytest.param("import sys; sys.modules['numba'] = None\n", {}, id="no numba"),
        pytest.param("", {"NUMBA_CACHE_DIR": "/proc/nothing"}, id="no folder for compiled code"),
    ],
)
def test_cl_nvrm_draws_the_same_where_there_is(start, environment):
    code = start + (
        "import torch; from cl_nvrm.noise import Gaussian, Stream\n"
        "out = torch.empty(5); Stream(3).add_noise(out, torch.zeros(5), Gaussian(), 1.0); print(out.tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | environment
    )
    out = torch.empty(5)
    Stream(3).add_noise(out, torch.zeros(5), Gaussian(), 1.0)
    assert done.stdout.strip() == str(out.tolist())


@pytest.mark.parametrize("noise", [Gaussian(), Laplace("matched"), Uniform("matched")], ids=str)
def test_a_stream_adds_noise_of_the_asked_scale(noise):
    out, clean = torch.empty(1_000_000), torch.full((1_000_000,), 5.0)
    Stream(1).add_noise(out, clean, noise, 0.1)
    assert float(out.mean()) == pytest.approx(5, abs=5e-4) and float(out.std()) == pytest.approx(0.1, rel=0.01)


def test_a_law_of_ones_own_needs_no_kernel():
    class Coin:
        variance = 1.0

        def draw_(self, out, generator):
            return out.bernoulli_(0.5, generator=generator).mul_(2).sub_(1)

    out = torch.empty(1000)
    Stream(1).add_noise(out, torch.zeros(1000), Coin(), 0.5)
    assert out.abs().unique().tolist() == [0.5]


@pytest.mark.skipif(launch.OPENMP is None, reason="torch here computes without GNU OpenMP's interface")
def test_loops_run_on_the_threads_that_torch_has(threads):
    threads(4)
    sample(size=400_000)
    before = threads_of_this_process()
    for _ in range(5):
        sample(size=400_000)
        torch.randn(400, 400) @ torch.randn(400, 400)
    assert threads_of_this_process() <= before


def threads_of_this_process():
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("Threads:")[1].split()[0])
