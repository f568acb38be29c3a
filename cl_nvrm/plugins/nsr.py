"""Neuron steadiness regularisation as an Avalanche plug-in: a unit should respond alike to all samples of a class.

Mao et al., "Neuron with steady response leads to better generalization", NeurIPS 2022 (arXiv 2111.15414): the loss
gains λ times the mean over batch and units of (x_in - μ_{y_i n})², μ_j the mean response to class j over the last m
batches, the present one included. The gradient passes through the present responses alone. At m = 1 the term is λ/N
Σ_n σ_n of the paper, σ_n the variance within classes, each class weighted by its share of the batch.

The published code has, for any but the last of its layers, the mean of one single sample for all of the batch, counts
active units only, divides by the number of non-zero responses, and needs a GPU and batches of one size. Ours does not.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from avalanche.models import avalanche_forward
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot
from torch.utils.hooks import RemovableHandle

from cl_nvrm.analysis.complexity import LOGITS, copied, davies_bouldin, features, intra_class_variance, named, units
from cl_nvrm.benchmark import sampled_batches
from cl_nvrm.errors import UserError
from cl_nvrm.plugins.loss_terms import LossTerm, compiled
from cl_nvrm.plugins.task_context import around_task

AUTO, VARIANCE = "auto", "intra_class_variance"
Sums = tuple[Tensor, Tensor, Tensor]  # of a batch: its classes (k,), how many of each (k,), their sums (k, units)
SAMPLES = 2000  # of the training data, for the diagnostics


class NSRPlugin(LossTerm):
    """Adds ``lambda_`` ≥ 0 times the deviation of a layer's responses from running class means over ``memory`` batches.

    ``layer`` is a name out of ``named_modules()``, "logits" for the network's output, or "auto": in the first batch of
    each task, the layer with the largest variance within classes, summed over its units. A layer there is a module with
    weights, together with what directly follows it and has none (activation, pooling). Each place of a feature map is a
    unit of its own. With ``start``, all this begins with that epoch of each task, counted from 0.

    Classes are those of a task, so the means start anew with each. ``seed`` chooses up to 2000 training samples for the
    diagnostics, taken at clean weights: ``by_epoch``, the layer's variance within classes and, of logits, their
    cross-entropy after every epoch; and at the task's end the former and the Davies-Bouldin index. At ``lambda_`` 0
    these are all there is; "auto" still chooses.
    """

    def __init__(
        self, lambda_: float = 1.0, *, memory: int = 5, layer: str = LOGITS, start: int = 0, seed: int = 0
    ) -> None:
        super().__init__()
        if not (math.isfinite(lambda_) and lambda_ >= 0):
            raise UserError(f"lambda must be a finite number of at least 0, got {lambda_}")
        if memory < 1:
            raise UserError(f"memory must be at least 1, the present batch, got {memory}")
        if start < 0:
            raise UserError(f"start must be at least 0, the first epoch, got {start}")
        self.lambda_, self.memory, self.layer, self.start, self.seed = lambda_, memory, layer, start, seed
        self.name = f"nsr {layer}"  # several, for several layers, may work together
        self.regularised = ""  # the layer of this task, once it is known
        self.queue: list[Sums] = []  # of the last batches
        self.by_epoch: dict[str, list[float]] = {}
        self.diagnostics: dict[str, Any] = {}
        self._responses: dict[str, Any] = {}
        self._originals: dict[str, Any] = {}  # for "auto", to tell who takes a response further
        self._hooks: list[RemovableHandle] = []

    @property
    def active(self) -> bool:
        """Whether λ > 0."""
        return self.lambda_ > 0

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Forget the last task, and see to it that no hook outlives this one: nobody is told of exceptions."""
        self._forget()
        if self.start >= strategy.train_epochs:
            raise UserError(f"start={self.start} leaves out all {strategy.train_epochs} epochs; take a smaller one")
        if self.layer != LOGITS and compiled(strategy.model):
            raise UserError(f"layer={self.layer} cannot be heard once compiled; take {LOGITS}, or do not compile")
        self.queue, self.by_epoch, self.diagnostics = [], {}, {}
        self.regularised = "" if self.layer == AUTO else self.layer
        if self.layer not in (AUTO, LOGITS):
            named(strategy.model, self.layer)
        around_task(strategy, self, self._forgetting)

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Listen to the layer, for this forward pass only: other plug-ins have passes of their own."""
        self._forget()
        model = strategy.model
        if not self._started(strategy):
            return
        if not self.regularised:
            leaves = [(name, module) for name, module in model.named_modules() if not any(module.children())]
            self._hooks = [module.register_forward_hook(self._keep_layer(name)) for name, module in leaves]
        elif self.regularised != LOGITS and self.lambda_:
            self._hooks = [named(model, self.regularised).register_forward_hook(self._keep(self.regularised))]

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Listen no more."""
        self._remove_hooks()

    def term(self, strategy: Any) -> Tensor | None:
        """Return the deviation of this batch's responses from the class means that it is part of."""
        if not self._started(strategy):
            return None
        responses, self._responses = {LOGITS: strategy.mb_output, **self._responses}, {}
        # Two heads may each have a class 0: a replayed sample is of another class than one of this task.
        _, place = labels = (strategy.mb_task_id * 2**32 + strategy.mb_y).unique(return_inverse=True)
        if not self.regularised:
            spread = {
                name: intra_class_variance(response, place)
                for name, response in responses.items()
                if isinstance(response, Tensor) and response.ndim and len(response) == len(place)
            }
            self.regularised = max(spread, key=lambda name: spread[name])  # of equals the first: logits, not their head
        if not self.lambda_:
            return None
        x = units(responses.get(self.regularised), self.regularised, len(place))
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return self.lambda_ * (x - self._class_means(x.detach(), *labels)[place]).square().mean()

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Measure what the epoch has made of the layer."""
        self._forget()
        if self.regularised:
            x, y = self._measured(strategy)
            self.by_epoch.setdefault(VARIANCE, []).append(intra_class_variance(x, y))
            if self.regularised == LOGITS:
                self.by_epoch.setdefault("cross_entropy", []).append(float(cross_entropy(x.double(), y)))

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Measure what has become of the layer."""
        self._forget()
        self.queue = []  # of no use until the next task, nor in a checkpoint
        if not self.regularised:
            return
        x, y = self._measured(strategy)
        self.diagnostics = {f"{VARIANCE}/{self.regularised}": intra_class_variance(x, y), "by_epoch": self.by_epoch}
        if 1 < len(y.unique()) < len(y):
            self.diagnostics[f"davies_bouldin/{self.regularised}"] = davies_bouldin(x, y)

    def _measured(self, strategy: Any) -> tuple[Tensor, Tensor]:
        """What the layer makes of the samples for the diagnostics, at the weights as they are, and their labels."""

        def forward(batch: Sequence[Tensor]) -> Tensor:
            x, _, task = (part.to(strategy.device) for part in batch)
            logits: Tensor = avalanche_forward(strategy.model, x, task)
            return logits

        batches = sampled_batches(strategy.experience.dataset, 500, SAMPLES, self.seed)
        with torch.random.fork_rng(devices=[]):
            return features(strategy.model, self.regularised, batches, forward=forward)

    def _started(self, strategy: Any) -> bool:
        started: bool = strategy.clock.train_exp_epochs >= self.start
        return started

    @torch.no_grad()
    def _class_means(self, x: Tensor, classes: Tensor, place: Tensor) -> Tensor:
        """Add a batch of responses (n, units) to the queue and return the mean of each of its classes, (k, units).

        Sums by class take the place of the responses themselves. They are matrix products, which have the same bits
        every time, as scattered sums on a GPU do not.
        """
        members = one_hot(place, len(classes)).T.to(x.dtype)
        before = [batch for batch in self.queue if batch[2].shape[1] == x.shape[1]]  # of no layer that has grown since
        self.queue = [*before, (classes, members.sum(1), members @ x)][-self.memory :]
        counts, sums = torch.zeros_like(members[:, 0]), torch.zeros(len(classes), x.shape[1], dtype=x.dtype).to(x)
        for known, count, total in self.queue:
            same = (classes[:, None] == known).to(x.dtype)
            counts += same @ count
            sums += same @ total
        return sums / counts[:, None]

    def _keep(self, name: str) -> Callable[..., None]:
        """Return a hook that keeps the first response of a module."""

        def keep(module: nn.Module, inputs: tuple[Any, ...], response: Any) -> None:
            if name not in self._responses:
                self._responses[name] = copied(response)

        return keep

    def _keep_layer(self, name: str) -> Callable[..., None]:
        """Return a hook that keeps the response of a module with weights, until one without takes it further."""

        def keep(module: nn.Module, inputs: tuple[Any, ...], response: Any) -> None:
            before = [key for key, kept in self._originals.items() if any(kept is one for one in inputs)]
            weighted = next(module.parameters(), None) is not None
            if name not in self._responses and (weighted or before):
                if not weighted:
                    self._responses.pop(before[0])
                    self._originals.pop(before[0])
                self._responses[name], self._originals[name] = copied(response), response

        return keep

    def _remove_hooks(self) -> None:
        self._originals = {}
        while self._hooks:
            self._hooks.pop().remove()

    @contextmanager
    def _forgetting(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._forget()

    def _forget(self) -> None:
        self._remove_hooks()
        self._responses = {}
