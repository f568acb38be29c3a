"""Elastic weight consolidation as an Avalanche plug-in.

Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 114(13), 2017, eq. 3: after each
task the loss of the next ones gains (λ/2) Σ_i F_i (θ_i - θ*_i)², with F the diagonal of the Fisher information.

λ does not carry over from Avalanche's own EWC, which leaves out the ½ and whose F is some 40 to 250 times smaller;
the option ``fisher="batch"`` reproduces that F for comparison.
"""

from typing import Any, Literal

import torch
from avalanche.models.utils import is_multi_task_module

from cl_nvrm.benchmark import sampled_batches
from cl_nvrm.errors import UserError
from cl_nvrm.noise import Seed
from cl_nvrm.plugins.fisher import Kind, diagonal_fisher
from cl_nvrm.plugins.quadratic import QuadraticPenalty

Mode = Literal["separate", "online"]


class EWCPlugin(QuadraticPenalty):
    """EWC with a per-sample Fisher information, at a cost that does not grow with the number of past tasks.

    ``lambda_`` ≥ 0 is Kirkpatrick's λ. ``fisher`` is the kind of ``diagonal_fisher``; ``samples`` of the task's
    training images are used for it (0: all). ``mode="separate"`` keeps one anchor a task (Kirkpatrick et al. 2017);
    ``"online"`` keeps the latest anchor and F ← ``decay`` · F + F_new (Schwarz et al., ICML 2018).
    """

    name = "ewc"

    def __init__(
        self,
        lambda_: float = 100.0,
        *,
        fisher: Kind = "exact",
        samples: int = 2000,
        mode: Mode = "separate",
        decay: float = 1.0,
        seed: Seed = 0,
    ) -> None:
        if not lambda_ >= 0:
            raise UserError(f"lambda must be at least 0, got {lambda_}")
        if samples < 0:
            raise UserError(f"samples must be at least 1, or 0 for all, got {samples}")
        if mode not in ("separate", "online"):
            raise UserError(f"mode must be separate or online, got '{mode}'")
        if not 0 <= decay <= 1:
            raise UserError(f"decay must lie between 0 and 1, got {decay}")
        super().__init__(lambda_ / 2)
        self.fisher, self.samples, self.mode, self.decay, self.seed = fisher, samples, mode, decay, seed

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Take the Fisher information and the anchor at the weights the task ended with."""
        few = 0 < self.samples <= 10_000  # large batches are faster, and need something to be made of
        size = strategy.train_mb_size if self.fisher == "batch" else 250 if few else 1000
        batches = (
            [part.to(strategy.device) for part in batch]
            for batch in sampled_batches(strategy.experience.dataset, size, self.samples, self.seed)
        )
        model, multi_task = strategy.model, is_multi_task_module(strategy.model)
        with torch.random.fork_rng(devices=[]):
            importance = self.measured(
                model, lambda: diagonal_fisher(model, batches, self.fisher, multi_task=multi_task, seed=self.seed)
            )
        weights = self.learned_weights(model)
        if self.mode == "online":
            # One anchor for all: moved to the new weights first, it leaves remember() no gap, hence no scatter.
            self.anchor |= weights
            self.importance = {name: self.decay * f for name, f in self.importance.items()}
        self.remember(importance, weights)
