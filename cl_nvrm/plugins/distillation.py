"""Distillation as Avalanche plug-ins: on the new task's inputs, the network is held to what it made of them before.

Li and Hoiem, "Learning without forgetting", ECCV 2016 (arXiv 1606.09282), distil its predictions; distilling what comes
into its output layer instead goes back to Romero et al., "FitNets", ICLR 2015 (arXiv 1412.6550), and in continual
learning to Jung et al., "Less-forgetting learning in deep neural networks", 2016 (arXiv 1607.00122).

The teacher has the clean weights the last task ended with and is asked in eval mode, without noise; the student is the
network in training, noise included. Avalanche's LwF sends the inputs through the network a second time, which moves
running statistics twice, draws new dropout masks and hands ``None`` to our networks as task label; its feature
distillation reads an attribute that our networks do not have.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, get_args

import torch
from avalanche.models import avalanche_forward
from avalanche.models.utils import is_multi_task_module
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from cl_nvrm.analysis.modules import copy_of, listening
from cl_nvrm.errors import UserError
from cl_nvrm.plugins.loss_terms import LossTerm, compiled
from cl_nvrm.plugins.quadratic import grown

Weights = Literal["constant", "tasks"]
Softmax = Literal["old", "all"]
Outputs = Literal["sum", "mean"]


class Distillation(LossTerm):
    """What both kinds share: the teacher, and the features of teacher and student, which come into the output layers.

    ``alpha`` ≥ 0 is the strength; at 0 there is no teacher. Where features are needed: UserError before training if the
    network is compiled, or has no linear layer, or several heads that are not in a list ``heads`` by task label; in the
    second task if the last linear layer of a network with a single head is not its output layer.
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        if not (math.isfinite(alpha) and alpha >= 0):
            raise UserError(f"alpha must be a finite number of at least 0, got {alpha}")
        self.alpha = alpha
        self.weights: dict[str, Tensor] = {}  # the teacher's, buffers included
        self.diagnostics: dict[str, int] = {}
        self.seen: dict[int, list[int]] = {}  # by task label, the classes the teacher has learned
        # Modules and hooks live no longer than a task, so that between tasks a checkpoint can be made.
        self._teacher: nn.Module | None = None
        self._heard: list[tuple[Tensor, Tensor]] = []  # what went into the student's output layers, and came out
        self._checked = False
        self._student: ExitStack | None = None  # holds the hooks

    @property
    def active(self) -> bool:
        """Whether α > 0."""
        return self.alpha > 0

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Refuse networks whose features cannot be heard, as far as can be told before training."""
        super().before_training(strategy, **kwargs)
        if self.active and self.needs_features(strategy.model):
            output_layers(strategy.model)
            if compiled(strategy.model):
                raise UserError(
                    f"{self.name} needs to hear the output layer, which compiled is silent; leave out --compile"
                )

    def before_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        """Build the teacher, before the network grows for the task to come."""
        self._stop_listening()
        if self.weights:
            self._teacher = copy_of(strategy.model).requires_grad_(False).eval()
            self._load(self._teacher)
            self._checked = False

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Listen at the student's output layers."""
        self._stop_listening()
        if self._teacher is not None and self.needs_features(strategy.model):
            self._student = ExitStack()
            self._heard = self._student.enter_context(_heard(strategy.model))

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Stop listening."""
        self._stop_listening()

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Keep the clean weights for the next teacher, and note what it has learned by now."""
        if self.alpha:
            self.weights = {name: t.detach().clone() for name, t in strategy.model.state_dict().items()}
            self.diagnostics = {"memory_bytes": sum(t.nbytes for t in self.weights.values())}
            for label in strategy.experience.task_labels:
                classes = {*self.seen.get(label, []), *strategy.experience.classes_in_this_experience}
                self.seen[label] = sorted(classes)
        self._teacher, self._heard = None, []

    def needs_features(self, model: nn.Module) -> bool:
        """Whether outputs are not enough."""
        return True

    def features(self, strategy: Any) -> tuple[Tensor, Tensor]:
        """Return what came into the output layers of student and teacher, (n, d) each, in one and the same order."""
        with _heard(self._teacher) as heard, torch.no_grad():
            logits = avalanche_forward(self._teacher, strategy.mb_x, strategy.mb_task_id)
        if not self._checked:
            alone = not is_multi_task_module(strategy.model)
            known = sorted({c for classes in self.seen.values() for c in classes})  # others may be masked
            if not self._heard or (alone and not _equal(heard[0][1].to(logits.dtype), logits, known)):
                raise UserError(
                    f"{self.name} needs to see the inputs of the output layer, which must be the last linear layer of "
                    "the network"
                )
            self._checked = True
        if self._heard[0][0].shape[-1] != heard[0][0].shape[-1]:
            raise UserError(
                f"{self.name} cannot hold {self._heard[0][0].shape[-1]} features to the {heard[0][0].shape[-1]} of the "
                "last network; the inputs of the output layer must stay as many"
            )
        mine, theirs = (torch.cat([features for features, _ in calls]) for calls in (self._heard, heard))
        return mine, theirs

    @torch.no_grad()
    def _load(self, teacher: nn.Module) -> None:
        """Give a copy of the network the weights it had, as far as it has not grown by hand since."""
        for name, tensor in teacher.state_dict().items():
            tensor.copy_(grown(self.weights.get(name), tensor, new=tensor))

    def _stop_listening(self) -> None:
        if self._student is not None:
            self._student.close()
            self._student = None


class LwFPlugin(Distillation):
    """Adds ``alpha`` · Σ_heads KL(teacher ‖ student) at ``temperature`` T > 0, the mean over the batch.

    That is eq. 2 and 3 of the paper less the teacher's entropy, which has no gradient, and without Hinton's factor T².
    Of each head, the classes count that have been seen. Heads of earlier tasks are distilled on the new inputs and stay
    as they are where the network freezes them, as ``TaskAware`` does; the paper trains them along, and has a warm-up of
    the new head, which this leaves out. With a single head, the new task's own outputs are held to the teacher's.

    Three options are those of van de Ven and Tolias 2018. ``weights="tasks"``: in the N-th task the loss on the batch
    counts 1/N, and ``alpha`` times the mean over heads 1 - 1/N. ``softmax="all"``: the student's runs over the outputs
    of new classes, too, for which the teacher has a probability of 0. ``outputs="mean"``: the divergence is divided by
    the number of outputs that the softmax runs over, as in the authors' code until May 2019, so that with a growing
    head old tasks weigh less with every task.
    """

    name = "lwf"

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        temperature: float = 2.0,
        weights: Weights = "constant",
        softmax: Softmax = "old",
        outputs: Outputs = "sum",
    ) -> None:
        for value, kind in ((weights, Weights), (softmax, Softmax), (outputs, Outputs)):
            if value not in get_args(kind):
                raise UserError(f"there is {' and '.join(get_args(kind))}, not '{value}'")
        if not (math.isfinite(temperature) and temperature > 0):
            raise UserError(f"temperature must be a finite number above 0, got {temperature}")
        super().__init__(alpha)
        self.temperature, self.weighting, self.softmax, self.outputs = temperature, weights, softmax, outputs
        self.tasks = 0  # how many have been learned

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Count the task."""
        super().after_training_exp(strategy, **kwargs)
        self.tasks += 1

    def needs_features(self, model: nn.Module) -> bool:
        """Only for the outputs of heads that are not those of the batch."""
        return bool(is_multi_task_module(model))

    def term(self, strategy: Any) -> Tensor | None:
        """Return the distillation loss of the batch; None on the first task."""
        teacher = self._teacher
        if teacher is None:
            return None
        if not self.needs_features(strategy.model):
            with torch.no_grad():
                theirs = teacher(strategy.mb_x)
            # task labels mean nothing to this network
            classes = sorted({c for classes in self.seen.values() for c in classes})
            return self._weighted(strategy, self._divergence(strategy.mb_output, theirs, classes))
        mine, their = self.features(strategy)
        heads, old_heads = output_layers(strategy.model), output_layers(teacher)
        total: Any = 0.0
        for label, classes in sorted(self.seen.items()):
            total = total + self._divergence(heads[label](mine), old_heads[label](their), classes)
        return self._weighted(strategy, total)

    def _weighted(self, strategy: Any, divergence: Tensor) -> Tensor:
        """The term to add, so that the loss on the batch has the weight it is to have."""
        if self.weighting == "constant":
            return self.alpha * divergence
        share = self.tasks / (self.tasks + 1)
        heads = len(self.seen) if self.needs_features(strategy.model) else 1
        batch_loss: Tensor = strategy._criterion(strategy.mb_output, strategy.mb_y)
        return share * (self.alpha / heads * divergence - batch_loss)

    def _divergence(self, mine: Tensor, theirs: Tensor, classes: list[int]) -> Tensor:
        told = log_softmax(theirs[:, classes] / self.temperature, dim=1)
        if self.softmax == "old":
            asked = log_softmax(mine[:, classes] / self.temperature, dim=1)
        else:
            asked = log_softmax(mine / self.temperature, dim=1)[:, classes]
        divergence = kl_div(asked, told, reduction="batchmean", log_target=True)
        if self.outputs == "sum":
            return divergence
        return divergence / (len(classes) if self.softmax == "old" else mine.shape[1])


class FeatureDistillationPlugin(Distillation):
    """Adds ``alpha`` · mean over the batch of ‖f - f*‖², f the student's and f* the teacher's features.

    Features are what comes into the output layer; the output layer itself is free. Jung et al. 2016, eq. 2, have ½ of
    that as the sum over all samples.
    """

    name = "feature-distillation"

    def __init__(self, alpha: float = 0.01) -> None:
        super().__init__(alpha)

    def term(self, strategy: Any) -> Tensor | None:
        """Return the distance of the batch's features; None on the first task."""
        if self._teacher is None:
            return None
        mine, theirs = self.features(strategy)
        return self.alpha * (mine - theirs).square().sum(1).mean()


def _equal(heard: Tensor, logits: Tensor, classes: list[int]) -> bool:
    wide_enough = max(classes) < min(heard.shape[-1], logits.shape[-1])  # a network may show the first outputs only
    return len(heard) == len(logits) and wide_enough and torch.equal(heard[:, classes], logits[:, classes])


def output_layers(model: Any) -> dict[int, nn.Module]:
    """Return a network's output layers by task label; one with a single head has just 0. UserError if it has none."""
    if is_multi_task_module(model):
        if not hasattr(model, "heads"):
            raise UserError(f"{type(model).__name__} needs a list heads, with an output layer for each task label")
        return dict(enumerate(model.heads))
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError(f"{type(model).__name__} has no linear layer whose inputs could be its features")
    return {0: linear[-1]}


@contextmanager
def _heard(model: Any) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Listen to what goes into the output layers and comes out, call by call, for the length of a ``with`` block."""
    heard: list[tuple[Tensor, Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        heard.append((inputs[0], output))

    with listening((layer, note) for layer in output_layers(model).values()):
        yield heard
