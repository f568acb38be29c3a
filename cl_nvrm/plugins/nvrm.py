"""NVRM as an Avalanche plug-in: every forward and backward pass sees freshly perturbed weights.

Xie et al., "Artificial neural variability for deep learning", Neural Computation 33(8), 2021 (arXiv 2011.06220), eq.
9 and 10. Noise goes on in ``before_forward`` and off in ``after_backward`` (the backward pass reads the weights
again), so the optimizer, and every other plug-in that reads weights between steps, only ever sees clean ones.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from avalanche.core import SupervisedPlugin
from avalanche.models.utils import is_multi_task_module
from torch import Tensor, nn
from torch.func import functional_call

from cl_nvrm.errors import UserError
from cl_nvrm.noise import Noise, Perturbation, Seed
from cl_nvrm.plugins.trials import PerTrial, plain, rows, trials_of

PenaltyAt = Literal["noisy", "clean"]
BatchNorm = Literal["noisy", "recalibrate"]


class NVRMPlugin(SupervisedPlugin):
    """Minimises the neural variable risk E[L(θ + ξ)] with one draw of ξ an iteration, whatever else the strategy does.

    ``variability``, ``noise``, ``relative`` and ``seed`` are those of ``Perturbation``. ``penalty_at`` says where the
    penalties of other plug-ins are taken: at the ``noisy`` weights, which is the paper's total gradient, or at the
    ``clean`` ones. ``batch_norm="recalibrate"`` replaces the running statistics, which were collected under noise, by
    those of one clean pass after each epoch; ``"noisy"`` keeps them, as the authors' code does.

    Its place among the plug-ins does not matter. If anything raises while noise is on, the weights come back first.

    >>> from avalanche.training import Naive
    >>> from cl_nvrm.plugins.ewc import EWCPlugin
    >>> model = nn.Linear(4, 2)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> strategy = Naive(model=model, optimizer=optimizer, plugins=[NVRMPlugin(0.03, seed=1), EWCPlugin(100.0)])
    """

    elementwise = True  # works on a stack of trials, too

    def __init__(
        self,
        variability: float = 0.03,
        noise: Noise | str = "gaussian",
        *,
        relative: bool = False,
        penalty_at: PenaltyAt = "noisy",
        batch_norm: BatchNorm = "noisy",
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        if penalty_at not in ("noisy", "clean"):
            raise UserError(f"penalty_at must be noisy or clean, got '{penalty_at}'")
        if batch_norm not in ("noisy", "recalibrate"):
            raise UserError(f"batch_norm must be noisy or recalibrate, got '{batch_norm}'")
        self.perturbation = Perturbation(variability, noise, relative=relative, seed=seed)
        self.penalty_at = penalty_at
        self.batch_norm = batch_norm
        self.diagnostics: dict[str, PerTrial] = {}

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Refuse a second noise source: the two would restore each other's noise."""
        if sum(isinstance(plugin, NVRMPlugin) for plugin in strategy.plugins) > 1:
            raise UserError("a strategy takes one NVRMPlugin; add their variances and use a single one")

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Guard the epoch that follows: Avalanche calls no plug-in when something raises."""
        self._end(strategy)  # a guard is left from an epoch that was announced but never run (early stopping)
        epoch: Callable[..., None] = strategy.training_epoch

        def guarded(**kwargs: Any) -> None:
            try:
                epoch(**kwargs)
            finally:
                self._end(strategy)

        strategy.training_epoch = guarded

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Noise on."""
        weights = [p for group in strategy.optimizer.param_groups for p in group["params"]]
        if self.penalty_at == "noisy":
            self.perturbation.apply(weights)
        else:
            strategy.forward = self._noisy_forward(strategy, weights)

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        """With clean penalties, only the forward pass itself is noisy."""
        strategy.__dict__.pop("forward", None)

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Noise off, before any gradient is used."""
        self.perturbation.restore()

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Collect clean BatchNorm statistics if asked to."""
        if self.batch_norm == "recalibrate":
            _recalibrate(strategy)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Record how large the noise is beside the weights: b times the law's spread over each tensor's size."""
        self._end(strategy)  # a task that was stopped before an epoch has left its guard
        spread, trials = self.perturbation.variability * self.perturbation.noise.variance**0.5, trials_of(strategy)
        self.diagnostics = {}
        for name, p in strategy.model.named_parameters():
            if p.requires_grad and p.ndim - bool(trials) > 1:
                size = rows(p.detach(), trials).square().mean(1).sqrt().clamp(min=1e-12)
                ratio = torch.full_like(size, spread) if self.perturbation.relative else spread / size
                self.diagnostics[f"noise_to_weight/{name}"] = plain(ratio, trials)

    def _noisy_forward(self, strategy: Any, weights: list[nn.Parameter]) -> Callable[[], Tensor]:
        noise = {id(p): xi for p, xi in self.perturbation.draw(weights)}
        perturbed = {n: p + noise[id(p)] for n, p in strategy.model.named_parameters() if id(p) in noise}

        def forward() -> Tensor:
            labels = (strategy.mb_task_id,) if is_multi_task_module(strategy.model) else ()
            logits: Tensor = functional_call(strategy.model, perturbed, (strategy.mb_x, *labels))
            return logits

        return forward

    def _end(self, strategy: Any) -> None:
        self.perturbation.restore()
        for wrapped in ("forward", "training_epoch"):
            strategy.__dict__.pop(wrapped, None)


@torch.no_grad()
def _recalibrate(strategy: Any) -> None:
    norms = [m for m in strategy.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the pass
    last = strategy.mbatch
    with torch.random.fork_rng():
        for batch in strategy.dataloader:
            strategy.mbatch = batch
            strategy._unpack_minibatch()
            strategy.forward()
    strategy.mbatch = last
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
