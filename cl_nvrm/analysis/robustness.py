"""Robustness: what random noise on the weights does to a model's accuracy and loss.

Models, loaders and losses are those of ``passes``: any module, any iterable of batches (inputs, labels, …), any mean
over the samples of a batch. The model is left as it was, and the global random state is neither read nor moved.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cl_nvrm.analysis.noisy_evaluation import Loader, Loss, means
from cl_nvrm.analysis.stats import Interval, mean_sd, t_interval
from cl_nvrm.noise import Noise, Perturbation


@dataclass(frozen=True)
class Draws:
    """A model under weight noise of one scale: accuracy in [0, 1] and mean loss, one of each a draw.

    At scale 0 there is one draw, the clean model, which has no spread. The intervals are Student's, at 95 %, of the
    mean over draws of the noise: they say nothing about other samples or other training runs.
    """

    scale: float
    accuracies: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def n(self) -> int:
        """The number of draws."""
        return len(self.losses)

    @property
    def accuracy(self) -> float:
        """The mean accuracy."""
        return sum(self.accuracies) / self.n

    @property
    def accuracy_interval(self) -> Interval:
        """The interval of the mean accuracy."""
        return t_interval(self.accuracies)

    @property
    def loss(self) -> float:
        """The mean loss."""
        return sum(self.losses) / self.n

    @property
    def loss_interval(self) -> Interval:
        """The interval of the mean loss; NaN where a loss is not finite."""
        return _interval(self.losses)


@dataclass(frozen=True)
class Sharpness:
    """L(θ+ξ) - L(θ) at noise of scale ``b``: the ``clean`` loss and one a draw, each a mean over ``samples`` samples.

    Negative values are possible: noise can lead out of a bad place.
    """

    b: float
    clean: float
    losses: tuple[float, ...]
    samples: int

    @property
    def increases(self) -> tuple[float, ...]:
        """The increase of the loss under each draw."""
        return tuple(loss - self.clean for loss in self.losses)

    @property
    def mean(self) -> float:
        """The estimate of E L(θ+ξ) - L(θ), unbiased."""
        return sum(self.increases) / len(self.losses)

    @property
    def standard_error(self) -> float:
        """The standard error of the mean; NaN for a single draw, or where a loss is not finite."""
        finite = all(map(math.isfinite, self.increases))
        return mean_sd(self.increases)[1] / math.sqrt(len(self.losses)) if finite else math.nan

    @property
    def interval(self) -> Interval:
        """Student's 95 % interval of the mean over draws; NaN where a loss is not finite."""
        return _interval(self.increases)


@dataclass(frozen=True)
class Variability:
    """The estimate of the least δ with which a model has (b, δ)-neural variability on a set of samples.

    Xie et al. 2021, definition 1: ξ ~ N(0, b²I) and |E L(θ+ξ) - L(θ)| ≤ δ.
    """

    sharpness: Sharpness

    @property
    def b(self) -> float:
        """The scale of the noise."""
        return self.sharpness.b

    @property
    def delta(self) -> float:
        """|E L(θ+ξ) - L(θ)|, from the draws; too large by up to a standard error where the truth is near 0."""
        return abs(self.sharpness.mean)

    @property
    def standard_error(self) -> float:
        """That of the signed mean."""
        return self.sharpness.standard_error

    @property
    def interval(self) -> Interval:
        """An interval that holds the true δ at least as often as 95 %: the absolute values of the signed one."""
        low, high = self.sharpness.interval
        nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
        return nearest, max(abs(low), abs(high))


def accuracy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the share of samples whose largest output (n, classes) is their label."""
    return (outputs.argmax(-1) == labels).double().mean()


def error_rate(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the share of wrong answers, the mean 0-1 loss."""
    return 1 - accuracy(outputs, labels)


def perturbed(
    model: nn.Module,
    loader: Loader,
    scales: Iterable[float],
    *,
    draws: int = 10,
    noise: Noise | str = "gaussian",
    relative: bool = False,
    seed: int = 0,
    loss: Loss = cross_entropy,
    at_once: int = 1,
) -> list[Draws]:
    """Return accuracy and loss under noise on all trainable weights, for each scale (Xie et al. 2021, experiment 1).

    Noise is Perturbation's with b = scale, raw or ``relative`` to each tensor's root mean square. Draw i is the same ξ
    times the scale at every scale, so scales are compared with less noise, and more draws only add to the first.

    ``at_once`` draws are evaluated side by side (``vmap`` over stacked weights) where that gives the same on the first
    batch, in memory that many times the weights and activations; elsewhere one by one. On a CPU that is no gain with
    an MLP and a loss with convolutions; it also means fewer passes over the loader, which may be slow itself.
    """
    found = []
    for scale in scales:
        perturbation = Perturbation(scale, noise, relative=relative, seed=seed)
        rows, _ = means(
            model, loader, (accuracy, loss), perturbation, draws if scale else 1, at_once=at_once, seed=seed
        )
        accuracies, losses = zip(*rows, strict=True)
        found.append(Draws(float(scale), accuracies, losses))
    return found


def expected_sharpness(
    model: nn.Module,
    loader: Loader,
    b: float,
    *,
    draws: int = 10,
    noise: Noise | str = "gaussian",
    relative: bool = False,
    seed: int = 0,
    loss: Loss = cross_entropy,
    at_once: int = 1,
) -> Sharpness:
    """Return E L(θ+ξ) - L(θ), signed: the expected sharpness of Neyshabur et al., NeurIPS 2017.

    Arguments as for ``perturbed``.
    """
    perturbation = Perturbation(b, noise, relative=relative, seed=seed)
    ((clean,),), samples = means(model, loader, (loss,), Perturbation(0.0), seed=seed)
    rows, _ = means(model, loader, (loss,), perturbation, draws, at_once=at_once, seed=seed)
    return Sharpness(float(b), clean, tuple(value for (value,) in rows), samples)


def neural_variability(
    model: nn.Module,
    loader: Loader,
    b: float,
    *,
    draws: int = 10,
    seed: int = 0,
    loss: Loss = cross_entropy,
    at_once: int = 1,
) -> Variability:
    """Return the δ with which the model has (b, δ)-neural variability (Xie et al. 2021, definition 1).

    The definition has Gaussian noise of one scale on all weights, so the law is not a choice.

    >>> import torch
    >>> model, batch = nn.Linear(2, 2), (torch.eye(2), torch.tensor([0, 1]))
    >>> neural_variability(model, [batch], b=0.0).delta, neural_variability(model, [batch], b=1.0).delta > 0
    (0.0, True)
    """
    return Variability(expected_sharpness(model, loader, b, draws=draws, seed=seed, loss=loss, at_once=at_once))


def generalisation_gap(model: nn.Module, train_loader: Loader, test_loader: Loader) -> float:
    """Return training minus test accuracy, in [-1, 1] (Xie et al. 2021, experiment 2)."""
    ((train,),), _ = means(model, train_loader, (accuracy,), Perturbation(0.0))
    ((test,),), _ = means(model, test_loader, (accuracy,), Perturbation(0.0))
    return train - test


def _interval(values: Sequence[float]) -> Interval:
    return t_interval(values) if all(map(math.isfinite, values)) else (math.nan, math.nan)
