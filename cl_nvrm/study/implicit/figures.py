"""What label noise does to weights that fit already: figures and numbers, at the scales of the other studies.

Lines are means over trials, bands reach from the smallest to the largest. ``small`` takes a minute or less for each on
one thread; ``smoke`` only runs through; ``paper`` trains longer, but for the rate, and v∘v with its authors' sizes.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from math import log

import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from cl_nvrm.study.implicit.regressions import MatrixSensing, Product, SparseSquares
from cl_nvrm.study.implicit.training import Noise, Problem, Training, Trajectory, fitted, train
from cl_nvrm.study.implicit.two_layers import OnePoint, ReLULine

KINDS: dict[Noise, str] = {
    "fresh": "label noise, fresh",
    "none": "none",
    "fixed": "label noise, drawn once",
    "weights": "on the weights",
}
LENGTH = {"smoke": 0.02, "small": 1.0, "paper": 5.0}  # of the training at each scale
PAIRS = ((0.05, 0.5), (0.05, 1.0), (0.1, 0.5), (0.1, 1.0))  # step size and standard deviation of the noise
Runs = dict[Noise, Trajectory]

PRODUCT = Product(u=2.0, trials=20)
SENSING = MatrixSensing(d=10, measurements=28)
LINE = ReLULine()
POINT = OnePoint()
PAPER_SQUARES, SMALL_SQUARES = SparseSquares(), SparseSquares(d=40, ones=3, points=25)
# Steps whose size falls at the end: noise keeps the loss at a floor, and the floor falls with the steps.
ON_SENSING = Training(eta=0.02, sigma=1.5, steps=10000, settle=1000, drops=(0.8, 0.9))
ON_LINE = Training(eta=0.05, sigma=1.5, steps=20000, settle=1000, drops=(0.8, 0.9))
ON_POINT = Training(eta=0.1, sigma=1.0, steps=6000, settle=500)
ON_SQUARES = Training(eta=0.01, sigma=1.0, at="one", steps=20000, settle=1000, drops=(0.8, 0.9), fit=False)
PUBLISHED = Training(eta=0.005, sigma=1.0, at="one", steps=300000, drops=(1 / 3, 2 / 3), fit=False, every=1000)


def rate_law(scale: str) -> Figure:
    """Draw imbalance and regulariser against η²σ²t, for several η and σ: they should lie on top of each other."""
    figure, (left, right) = _panels("Label noise acts at the rate η²σ²", 2)
    for number, ((eta, sigma), run) in enumerate(_products(scale).items()):
        _line(left, eta**2 * sigma**2 * run.step, run.error / run.error[0], f"η = {eta:g}, σ = {sigma:g}", number)
    end = eta**2 * sigma**2 * float(run.step[-1])
    x = torch.linspace(0, end, 100)
    left.plot(x.tolist(), (-x).exp().tolist(), color="0.3", ls="--", lw=1.2, label="exp(-η²σ²t)")
    left.set(xlabel="η²σ² t", ylabel="|u² - v²|, share of the start", yscale="log", title="h = uv")
    n = SENSING.measurements
    for number, ((eta, sigma), run) in enumerate(_sensed_at_rates(scale).items()):
        label = f"η = {eta:g}, σ = {sigma:g}"
        _line(right, eta**2 * sigma**2 / n * run.step, run.regulariser / run.regulariser[0], label, number)
    right.set(xlabel="η²σ² t / n", ylabel="reg(θ), share of the start", title="Matrix sensing")
    return _finished(figure, [left, right], PRODUCT.trials, SENSING.trials)


def rate_numbers(scale: str) -> dict[str, float]:
    """Return the decay of u² - v² over that of exp(-η²σ²t), and the η²σ²t/n by which matrix sensing's reg has halved.

    The latter is NaN where it has not. The former is above 1 by what the wandering of uv itself adds to r², a share of
    about η (u² + v²) / 2.
    """
    found = {}
    for (eta, sigma), run in _products(scale).items():
        decay = -log(float((run.error[-1] / run.error[0]).log().mean().exp()))
        found[f"h = uv, η = {eta:g}, σ = {sigma:g}: decay / η²σ²t"] = decay / (eta**2 * sigma**2 * float(run.step[-1]))
    for (eta, sigma), run in _sensed_at_rates(scale).items():
        half = (run.regulariser.mean(1) <= run.regulariser[0].mean() / 2).nonzero()
        time = float(run.step[half[0, 0]]) if len(half) else float("nan")
        found[f"matrix sensing, η = {eta:g}, σ = {sigma:g}: η²σ²t/n at half"] = (
            eta**2 * sigma**2 * time / SENSING.measurements
        )
    return found


def recovery(scale: str) -> Figure:
    """Draw how far from the truth matrix sensing and v∘v are under each kind of noise."""
    figure, axes = _panels("Which noise finds the simple truth behind the labels?", 2)
    for axis, runs, title in zip(
        axes, _recovered(scale), ("Matrix sensing, ‖UUᵀ - X‖²", "v∘v, ‖v∘v - w‖²"), strict=True
    ):
        _by_kind(axis, runs)
        axis.set(ylabel="Test error", title=title, yscale="log")
    return _finished(figure, axes, SENSING.trials, _squares(scale).trials)


def recovery_numbers(scale: str) -> dict[str, float]:
    """Return the test error under each kind of noise, of matrix sensing at the start also."""
    sensing, squares = _recovered(scale)
    return {
        "matrix sensing, start": float(sensing["none"].error[0].mean()),
        **_ends("matrix sensing", sensing),
        **_ends("v∘v", squares),
    }


def kinks(scale: str) -> Figure:
    """Draw the ReLU network before and after each kind of noise, and how much it bends between collinear points."""
    figure, (left, right) = _panels("Label noise irons a ReLU network between collinear points", 2)
    runs, x = _ironed(scale), torch.linspace(-1, 1, 401, dtype=torch.double)
    _by_kind(right, runs)
    for number, (kind, name) in enumerate(KINDS.items()):
        left.plot(x.tolist(), LINE.at(runs[kind].theta, x)[0].tolist(), color=_colour(number), label=name)
    left.plot(LINE.x.tolist(), LINE.labels[0].tolist(), "o", color="black", ms=5)
    left.set(xlabel="x", ylabel="h(x), first trial", title="After training (none: as it was before)")
    right.set(ylabel="Sum of |changes of slope|", title="Between collinear points")
    return _finished(figure, [left, right], LINE.trials, LINE.trials)


def kink_numbers(scale: str) -> dict[str, float]:
    """Return the bends between collinear points, and how often the convexity changes (at least once), at the end."""
    runs = _ironed(scale)
    changes = {k: float(LINE.convexity_changes(run.theta).double().mean()) for k, run in runs.items()}
    return _ends("bends", runs) | {f"convexity changes, {KINDS[k]}": value for k, value in changes.items()}


def units(scale: str) -> Figure:
    """Draw the units of a tanh network on one point before and after, and how many kinds of them there are."""
    figure, (left, right) = _panels("Label noise makes the units of a network alike", 2)
    runs = _gathered(scale)
    for number, (name, theta) in enumerate({"start": fitted(POINT), "end": runs["fresh"].theta}.items()):
        s, c = POINT.pairs(theta)[0].unbind(1)
        left.plot(s.tolist(), c.tolist(), "o^"[number], ms=7, alpha=0.7, color=_colour(number), label=name)
    left.set(xlabel="tanh(w · x)", ylabel="c, first trial", title="Units under fresh label noise")
    _by_kind(right, runs)
    right.set(ylabel="Kinds of units beyond two", title="How many kinds")
    return _finished(figure, [left, right], POINT.trials, POINT.trials)


def unit_numbers(scale: str) -> dict[str, float]:
    """Return the number of kinds of units that are not 0, at the end."""
    kinds = {k: float(POINT.kinds(run.theta).double().mean()) for k, run in _gathered(scale).items()}
    return {f"kinds of units, {KINDS[k]}": value for k, value in kinds.items()}


@cache
def _products(scale: str) -> dict[tuple[float, float], Trajectory]:
    return {
        (eta, sigma): train(PRODUCT, _for_time(eta, sigma, 3.0, 60))
        for eta, sigma in PAIRS[: 1 if scale == "smoke" else None]
    }


@cache
def _sensed_at_rates(scale: str) -> dict[tuple[float, float], Trajectory]:
    pairs = [(0.01, 1.0), (0.01, 2.0), (0.02, 1.0), (0.02, 2.0)]
    time = SENSING.measurements * 0.1 * min(1.0, LENGTH[scale])
    return {(eta, sigma): train(SENSING, _for_time(eta, sigma, time, 100)) for eta, sigma in pairs}


def _for_time(eta: float, sigma: float, time: float, points: int) -> Training:
    """Training until η²σ²t is ``time``, measured so many times."""
    steps = max(points, round(time / (eta * sigma) ** 2))
    return Training(eta=eta, sigma=sigma, steps=steps, every=max(1, steps // points))


@cache
def _recovered(scale: str) -> tuple[Runs, Runs]:
    on_squares = PUBLISHED if scale == "paper" else _longer(ON_SQUARES, scale)
    return _all_kinds(SENSING, _longer(ON_SENSING, scale)), _all_kinds(_squares(scale), on_squares)


@cache
def _ironed(scale: str) -> Runs:
    return _all_kinds(LINE, _longer(ON_LINE, scale))


@cache
def _gathered(scale: str) -> Runs:
    return _all_kinds(POINT, _longer(ON_POINT, scale))


def _squares(scale: str) -> SparseSquares:
    return PAPER_SQUARES if scale == "paper" else SMALL_SQUARES


def _all_kinds(problem: Problem, how: Training) -> Runs:
    return {kind: train(problem, replace(how, noise=kind)) for kind in KINDS}


def _longer(how: Training, scale: str) -> Training:
    steps = round(how.steps * LENGTH[scale])
    return replace(how, steps=steps, settle=round(how.settle * LENGTH[scale]), every=max(1, steps // 100))


def _ends(name: str, runs: Runs) -> dict[str, float]:
    return {f"{name}, {KINDS[kind]}": float(run.error[-1].mean()) for kind, run in runs.items()}


def _panels(title: str, count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(4.8 * count, 4.2), layout="constrained")
    with sns.axes_style("whitegrid"):
        axes = list(figure.subplots(1, count))
    figure.suptitle(title)
    return figure, axes


def _by_kind(axis: Axes, runs: Runs) -> None:
    for number, (kind, run) in enumerate(runs.items()):
        _line(axis, run.step, run.error, KINDS[kind], number)
    axis.set_xlabel("Steps")


def _line(axis: Axes, x: Tensor, values: Tensor, label: str, number: int) -> None:
    """Draw values (k, trials) over x (k,)."""
    axis.plot(x.tolist(), values.mean(1).tolist(), color=_colour(number), label=label)
    ends = values.amin(1).tolist(), values.amax(1).tolist()
    axis.fill_between(x.tolist(), *ends, color=_colour(number), alpha=0.15, lw=0)


def _colour(number: int) -> tuple[float, float, float]:
    colour: tuple[float, float, float] = sns.color_palette("colorblind")[number % 10]
    return colour


def _finished(figure: Figure, axes: Sequence[Axes], *trials: int) -> Figure:
    for axis in axes:
        axis.legend(fontsize="small")
    n = " and ".join(str(count) for count in dict.fromkeys(trials))
    figure.supxlabel(f"means and ranges over trials, n = {n}", fontsize="small")
    return figure
