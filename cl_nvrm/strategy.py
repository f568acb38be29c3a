"""Strategy: Avalanche's training loop on our data path."""

import warnings
from typing import Any

from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.templates import SupervisedTemplate

from cl_nvrm.benchmark import Seed, ShuffledBatches, task_data
from cl_nvrm.errors import UserError
from cl_nvrm.spec import derived_seed


class Strategy(SupervisedTemplate):
    """Avalanche's supervised strategy, fed from tensors where the data allow it.

    The order of batches depends on the run's seed, the task and the epoch alone, so runs with and without noise see
    the same ones. A plug-in that changes the data or the loader (replay, say) gets Avalanche's own loader.
    """

    def __init__(self, *, seed: Seed, **arguments: Any) -> None:
        super().__init__(evaluator=_silent_evaluator(), **arguments)
        self.seed = seed
        self.gradient_passes = 0

    def backward(self) -> None:
        """Differentiate the loss, and count it: some methods take more than one gradient a step."""
        self.gradient_passes += 1
        super().backward()

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
                    "a plug-in changes the training data, which would not be augmented; write augment=false"
                )
            super().make_train_dataloader(**arguments)
            return
        self.dataloader = ShuffledBatches(tensors, self.train_mb_size, self.epoch_seed)


def _silent_evaluator() -> EvaluationPlugin:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No loggers specified")  # accuracy is computed from the model instead
        return EvaluationPlugin()
