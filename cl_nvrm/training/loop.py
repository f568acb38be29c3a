"""Strategy: Avalanche's training loop on our data path."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import nn

from cl_nvrm.benchmark import Seed, ShuffledBatches, task_data
from cl_nvrm.deferred import without_compiler
from cl_nvrm.errors import UserError
from cl_nvrm.spec import derived_seed


class Strategy(SupervisedTemplate):
    """Avalanche's supervised strategy, fed from tensors where the data allow it.

    The order of batches depends on the run's seed, the task and the epoch alone, so runs with and without noise see
    the same ones. A plug-in that changes the data or the loader (replay, say) gets Avalanche's own loader.

    ``iterations`` is the number of steps a task, the last epoch ending early; 0 leaves it to ``train_epochs``.

    A model with a method ``constrain()`` meets its constraint whenever its weights are at rest: before the first step,
    and from the last ``after_update`` of each step on, noise that lasts included. So SI's path, as its anchors and
    everything measured, has the constraint's part of each step in it: that is where the weights went.

    A model with a method ``learn()`` is shown each batch in the place of a gradient step, which then has no loss.
    """

    def __init__(self, *, seed: Seed, iterations: int = 0, **arguments: Any) -> None:
        super().__init__(evaluator=_silent_evaluator(), **arguments)
        self.seed = seed
        self.iterations = iterations
        self.gradient_passes = 0
        constrain(self.model)

    def backward(self) -> None:
        """Differentiate the loss, and count it: some methods take more than one gradient a step."""
        self.gradient_passes += 1
        super().backward()

    def optimizer_step(self) -> None:
        """Step the optimizer."""
        with without_compiler():
            super().optimizer_step()

    def train(self, *arguments: Any, **keywords: Any) -> Any:
        """Train as Avalanche does, with an optimizer's own noise where NVRM's plug-in has it."""
        with _noise_by_hand(self.optimizer):
            return super().train(*arguments, **keywords)

    def _before_forward(self, **kwargs: Any) -> None:
        if _has_noise(self.optimizer):
            self.optimizer.perturb()
        super()._before_forward(**kwargs)

    def _after_update(self, **kwargs: Any) -> None:
        # Not in optimizer_step: perturbed SGD adds its noise in after_update, and is the optimizer psgd bit for bit.
        super()._after_update(**kwargs)
        constrain(self.model)

    def training_epoch(self, **kwargs: Any) -> None:
        """Train on all batches, or on those that are left of the task's iterations."""
        if self.iterations:
            loader: Any = self.dataloader
            self.dataloader: Any = islice(loader, self.iterations - self.clock.train_exp_iterations)
            try:
                self._epoch(**kwargs)
            finally:
                self.dataloader = loader
        else:
            self._epoch(**kwargs)

    def _epoch(self, **kwargs: Any) -> None:
        learner = _who_offers(self.model, "learn")
        if learner is None:
            super().training_epoch(**kwargs)
            return
        for batch in self.dataloader:
            self.mbatch: Any = batch
            self._unpack_minibatch()
            self._before_training_iteration(**kwargs)
            self.loss: Any = None
            learner.learn(self.mb_x, self.mb_y, self.mb_task_id)
            self._after_training_iteration(**kwargs)

    def _train_exp(self, *arguments: Any, **kwargs: Any) -> None:
        self._count_epochs()  # a plug-in may have exchanged the loader since it was made
        super()._train_exp(*arguments, **kwargs)

    def _count_epochs(self) -> None:
        if self.iterations:
            self.train_epochs = -(-self.iterations // len(self.dataloader))

    def epoch_seed(self) -> Seed:
        """Return what the order of the coming epoch's batches depends on."""
        place = (self.experience.current_experience, self.clock.train_exp_epochs)
        if isinstance(self.seed, tuple):
            return tuple(derived_seed(seed, "batches", *place) for seed in self.seed)
        return derived_seed(self.seed, "batches", *place)

    def make_train_dataloader(self, **arguments: Any) -> None:
        """Set ``self.dataloader``."""
        tensors = task_data(self.adapted_dataset)
        if tensors is None:
            original = task_data(self.experience.dataset.train())
            if original is not None and original.augment is not None:
                raise UserError(
                    "a plug-in changes the training data, which are then not augmented; write augment=false"
                )
            super().make_train_dataloader(**arguments)
        else:
            self.dataloader = ShuffledBatches(tensors, self.train_mb_size, self.epoch_seed)
        self._count_epochs()


def _has_noise(optimizer: Any) -> bool:
    """Whether it is a ``cl_nvrm.optim.NVRM`` or its like."""
    return all(hasattr(optimizer, name) for name in ("automatic", "perturb", "denoise"))


@contextmanager
def _noise_by_hand(optimizer: Any) -> Iterator[None]:
    """Let an optimizer with noise of its own leave it to the strategy for the length of a ``with`` block.

    It is then on the weights themselves from ``before_forward`` to the step, so that penalties see it, too, and in no
    other pass, such as A-GEM's on its memory.
    """
    if not _has_noise(optimizer):
        yield
        return
    before, optimizer.automatic = optimizer.automatic, False
    try:
        yield
    finally:
        optimizer.denoise()
        optimizer.automatic = before


def constrain(model: nn.Module) -> None:
    """Apply a model's constraint to its stored weights."""
    constrained = _who_offers(model, "constrain")
    if constrained is not None:
        constrained.constrain()


def _who_offers(model: nn.Module, method: str) -> Any:
    """The model, or the one it wraps as ``network``, that has a method; None if none has."""
    network: Any = model
    while network is not None and not hasattr(network, method):
        network = getattr(network, "network", None)
    return network


def _silent_evaluator() -> EvaluationPlugin:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No loggers specified")  # accuracy is computed from the model instead
        return EvaluationPlugin()
