"""Label-noise SGD as an Avalanche plug-in: every iteration sees its labels through noise of its own.

Blanc, Gupta, Valiant and Valiant, "Implicit regularization for deep neural networks driven by an Ornstein-Uhlenbeck
like process", COLT 2020 (arXiv 1904.09080): on the squared loss, fresh noise on the labels drives an interpolating
network to where (1/n) Σ_i ‖∇_θ h(x_i, θ)‖² is small. Noise drawn once and kept is no more than other labels to fit.

Replacing labels is what a network that classifies can do: DisturbLabel (Xie et al., "DisturbLabel: regularizing CNN on
the loss layer", CVPR 2016, arXiv 1605.00055) in the convention of our benchmarks, where a replaced label is never the
true one. Its mean over the noise is label smoothing, so the weights it settles at do not interpolate.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from avalanche.core import SupervisedPlugin
from avalanche.models.utils import is_multi_task_module
from torch import Tensor
from torch.nn.functional import one_hot

from cl_nvrm.analysis.implicit_regulariser import implicit_regulariser
from cl_nvrm.benchmark import sampled_batches
from cl_nvrm.errors import UserError
from cl_nvrm.noise import Gaussian, Noise, Seed, Stream, Uniform
from cl_nvrm.plugins.task_context import around_task
from cl_nvrm.plugins.trials import PerTrial, trial_models, trials_of

Loss = Literal["cross-entropy", "squared"]
LabelLaw = Literal["gaussian", "rademacher"]
Criterion = Callable[[Tensor, Tensor], Tensor]
AT_ONCE = 64  # samples whose inputs are on the device together while the regulariser is taken


@dataclass(frozen=True)
class Rademacher:
    """1 or -1, each with probability ½."""

    @property
    def variance(self) -> float:
        """1."""
        return 1.0

    def draw_(self, out: Tensor, generator: torch.Generator) -> Tensor:
        """Fill ``out`` with signs."""
        return out.bernoulli_(0.5, generator=generator).mul_(2).sub_(1)


class LabelNoisePlugin(SupervisedPlugin):
    """Puts fresh noise on the labels of each iteration's batch, which are clean again for all but the loss.

    With ``loss="cross-entropy"``, each label is replaced with probability ``rate`` by another class, all of the model's
    outputs alike, and the strategy's own criterion is taken. With ``"squared"`` that criterion gives way to the mean
    over the batch of ½‖h(x) - (onehot(y) + ε)‖², ε = ``sigma`` · N(0, 1) or ± ``sigma`` as ``law`` says, one draw for
    each sample and output. At ``rate`` 0 nothing is touched and no number drawn; at ``sigma`` 0 the squared loss stays.

    All passes of an iteration see the same noise (SAM), and ``strategy.mb_y`` is the true label throughout. What is
    evaluated has no noise, nor have other labels (A-GEM's), whose loss is the same otherwise. One plug-in of each form
    may go together: the squared loss then has both kinds of noise.

    ``diagnose`` samples (0: none) of each task are measured when it ends: ``implicit_regulariser`` is the sum above
    over that many of them, at the weights without noise.
    """

    elementwise = True  # works on a stack of trials, too

    def __init__(
        self,
        loss: Loss = "cross-entropy",
        *,
        rate: float = 0.1,
        sigma: float = 0.5,
        law: LabelLaw = "gaussian",
        diagnose: int = 256,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        for name, value, values in (("loss", loss, get_args(Loss)), ("law", law, get_args(LabelLaw))):
            if value not in values:
                raise UserError(f"{name} must be {' or '.join(values)}, got '{value}'")
        if not 0 <= rate <= 1:
            raise UserError(f"rate must lie within 0 and 1, got {rate}")
        if not (math.isfinite(sigma) and sigma >= 0):
            raise UserError(f"sigma must be a finite number of at least 0, got {sigma}")
        if diagnose < 0:
            raise UserError(f"diagnose must be a number of samples, or 0 for none, got {diagnose}")
        self.loss, self.rate, self.sigma, self.diagnose, self.seed = loss, rate, sigma, diagnose, seed
        self.law: Noise = Gaussian() if law == "gaussian" else Rademacher()
        self.stream = Stream(seed)
        self.diagnostics: dict[str, PerTrial] = {}
        self._noise: Tensor | None = None  # of this iteration, once its loss has been asked for
        self._on = False

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Refuse a second noise on the same labels, of which one would see what the other has made of them."""
        if sum(isinstance(plugin, LabelNoisePlugin) and plugin.loss == self.loss for plugin in strategy.plugins) > 1:
            what = "sigma" if self.loss == "squared" else "rate"
            raise UserError(
                f"a strategy takes one LabelNoisePlugin of a form; give it the {what} of all of them together"
            )

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """See to it that the training that follows has the noisy criterion, and that it goes whatever happens."""
        forms = {p.loss: p for p in strategy.plugins if isinstance(p, LabelNoisePlugin) and p.active}
        if self is next(iter(forms.values()), None):
            around_task(
                strategy, self, lambda: _noisy_labels(strategy, forms.get("cross-entropy"), forms.get("squared"))
            )

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Noise on; it is drawn when the loss is asked for, as its shape is that of the outputs."""
        self._on, self._noise = True, None

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Noise off; RuntimeError if the loss never came by."""
        unseen = self._on and self._noise is None and self.active
        self._on, self._noise = False, None
        if unseen:
            raise RuntimeError("this strategy's loss does not hold the outputs against mb_y: no label noise in it")

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Measure the regulariser on samples of this task, by the plug-in's seed."""
        if self.diagnose:
            measured = self._regulariser(strategy)
            self.diagnostics = {"implicit_regulariser": measured if trials_of(strategy) else measured[0]}

    @property
    def active(self) -> bool:
        """Whether the loss is another than without it."""
        return self.loss == "squared" or self.rate > 0

    def _replace(self, labels: Tensor, classes: int) -> Tensor:
        """The labels (n,) that this iteration has in place of the true ones."""
        if self._noise is None:
            self._noise = self._replaced(labels, classes)
        return self._noise

    def _squared(self, outputs: Tensor, labels: Tensor, *, noisy: bool) -> Tensor:
        """The squared loss of outputs (n, classes) and labels (n,), or of a stack of them, with this iteration's ε."""
        gap = outputs - one_hot(labels, outputs.shape[-1])
        if noisy:
            if self._noise is None:
                self._noise = self._epsilon(outputs)
            gap = gap - self._noise
        return 0.5 * gap.square().sum(-1).mean(-1)

    @torch.no_grad()
    def _epsilon(self, outputs: Tensor) -> Tensor:
        epsilon = torch.zeros(outputs.shape, device=outputs.device)
        return self.stream.draw_(epsilon, self.law).mul_(self.sigma) if self.sigma else epsilon

    @torch.no_grad()
    def _replaced(self, labels: Tensor, classes: int) -> Tensor:
        """Labels of which the share ``rate``, each on its own, goes to another class."""
        if classes < 2:
            raise UserError(f"label noise needs at least two classes, got {classes}; take squared-label-noise")
        chance, which = (
            self.stream.draw_(torch.empty(labels.shape, device=labels.device), Uniform()).add_(1).div_(2)
            for _ in range(2)
        )
        further = 1 + (which * (classes - 1)).long().clamp_(max=classes - 2)
        return torch.where(chance < self.rate, (labels + further) % classes, labels)

    def _regulariser(self, strategy: Any) -> list[float]:
        """The regulariser of each trial; of one, outside of a stack."""
        stacked = trial_models(strategy.model)
        models = stacked or [strategy.model]
        sums, count = [0.0] * len(models), 0
        for batch in sampled_batches(strategy.experience.dataset, AT_ONCE, self.diagnose, self.seed):
            x, *_, tasks = [part.to(strategy.device) for part in batch]
            task = (int(tasks.flatten()[0]),) if is_multi_task_module(strategy.model) else ()
            each = x if stacked else [x]
            for trial, (model, inputs) in enumerate(zip(models, each, strict=True)):
                sums[trial] += len(inputs) * implicit_regulariser(model, inputs, *task)
            count += len(each[0])
        return [total / max(count, 1) for total in sums]


@contextmanager
def _noisy_labels(
    strategy: Any, replacing: LabelNoisePlugin | None, squared: LabelNoisePlugin | None
) -> Iterator[None]:
    """Give the strategy a criterion with the noise of one plug-in or of both for the length of a ``with`` block."""
    criterion: Criterion = strategy._criterion

    def noisy(outputs: Tensor, labels: Tensor) -> Tensor:
        # Not what a plug-in asks about samples of its own, and not what is evaluated between iterations.
        own = labels is strategy.mb_y
        if replacing is not None and own and replacing._on:
            labels = replacing._replace(labels, outputs.shape[-1])
        if squared is not None:
            return squared._squared(outputs, labels, noisy=own and squared._on)
        return criterion(outputs, labels)

    strategy._criterion = noisy
    try:
        yield
    finally:
        strategy._criterion = criterion
        for plugin in (replacing, squared):
            if plugin is not None:
                plugin._on, plugin._noise = False, None
