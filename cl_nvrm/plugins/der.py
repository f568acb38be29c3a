"""Dark experience replay: samples from memory are to have the logits they had when they were shown.

Buzzega, Boschini, Porrello, Abati and Calderara, "Dark experience for general continual learning: a strong, simple
baseline", NeurIPS 2020 (arXiv 2004.07211), eq. 5 (DER) and 6 (DER++). Avalanche's DER asks the trained network once
more at the end of a task for the logits it keeps, draws once for both terms, and hands our networks no task label;
this is the published form.
"""

import math
from typing import Any

import torch
from avalanche.models import avalanche_forward
from torch import Tensor

from cl_nvrm.errors import UserError
from cl_nvrm.plugins.loss_terms import LossTerm
from cl_nvrm.plugins.memory import Rehearsal, Samples

MASKED = -1000.0  # what Avalanche's networks put in the place of outputs that are not in use yet


class DERPlugin(Rehearsal, LossTerm):
    """Adds ``alpha`` · the mean of (logits - stored logits)² and ``beta`` · the loss of a second draw from memory.

    Both are ≥ 0; a term whose factor is 0 draws nothing. The logits kept are those of the pass that trained on the
    sample, at the weights of that step, under NVRM with its noise. The mean is over all samples and outputs that were
    there when the logits were kept: a network may have grown, and a masked output says nothing. Nothing keeps outputs
    that came later from winning on old samples, so in class-incremental learning DER (not DER++) needs all outputs
    from the start, as in the paper. Each sample goes through the head of its own task, in a pass of its own in
    training mode, which moves running statistics.

    As a ``LossTerm`` it is a penalty, no part of the data's loss: SI does not see its gradient, SAM refuses it, and
    NVRM's ``penalty_at=clean`` takes it at the clean weights.
    """

    def __init__(
        self, memory: int = 200, *, alpha: float = 1.0, beta: float = 0.0, batch: int = 0, seed: int = 0
    ) -> None:
        for key, value in (("alpha", alpha), ("beta", beta)):
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"{key} must be a finite number of at least 0, got {value}")
        super().__init__(memory, batch=batch, seed=seed)
        self.alpha, self.beta = alpha, beta
        self.name = "derpp" if beta else "der"

    @property
    def active(self) -> bool:
        """Whether there can be something in memory, and a factor above 0."""
        return self.memory.size > 0 and (self.alpha > 0 or self.beta > 0)

    def kept(self, strategy: Any) -> Samples:
        """Return the new samples with the logits of the pass just taken; what joined the batch comes after them."""
        logits = strategy.mb_output.detach()[: len(self._new["y"])]
        return {**self._new, "logits": logits, "outputs": torch.full_like(self._new["y"], logits.shape[1])}

    def term(self, strategy: Any) -> Tensor | None:
        """Return the sum of both terms; None while the memory is empty."""
        terms = []
        if self.alpha and (drawn := self.draw(strategy)):
            logits = avalanche_forward(strategy.model, drawn["x"], drawn["task"])
            terms.append(self.alpha * mean_square(logits, drawn["logits"], drawn["outputs"]))
        if self.beta and (drawn := self.draw(strategy)):
            logits = avalanche_forward(strategy.model, drawn["x"], drawn["task"])
            terms.append(self.beta * strategy._criterion(logits, drawn["y"]))
        return torch.stack(terms).sum() if terms else None


def mean_square(logits: Tensor, stored: Tensor, outputs: Tensor) -> Tensor:
    """Return the mean of (logits - stored)² over what was there when logits were stored: (n, C), (n, D) and (n,).

    Of ``stored``, the first ``outputs`` of each sample count, unless they were masked; further ones are padding.

    >>> mean_square(torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[0.0, 4.0]]), torch.tensor([2]))
    tensor(2.5000)
    """
    common = min(logits.shape[1], stored.shape[1])
    logits, stored = logits[:, :common], stored[:, :common]
    counts = (torch.arange(common, device=stored.device) < outputs[:, None]) & (stored > MASKED)
    return (logits - stored).masked_fill(~counts, 0.0).square().sum() / counts.sum().clamp(min=1)
