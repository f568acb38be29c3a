"""Bounds: what training reaches that may look at the data of other tasks, as Avalanche plug-ins.

What a method reaches lies between plain training and ``joint``, which trains on all tasks at once. So that steps are
not what makes the difference, both take as many of them as the others do.
"""

from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from avalanche.core import SupervisedPlugin
from avalanche.models.utils import is_multi_task_module
from avalanche.training.plugins import ReplayPlugin as AvalancheReplay

from cl_nvrm.benchmark import Benchmark, Merged, TaskData
from cl_nvrm.errors import UserError
from cl_nvrm.plugins.ewc import EWCPlugin
from cl_nvrm.plugins.mas import MASPlugin
from cl_nvrm.plugins.rehearsal import NaiveRehearsalPlugin

Steps = Literal["same", "epochs"]


class ScratchPlugin(SupervisedPlugin):
    """Starts each task but the first with new weights and a new optimizer: what the task's data alone can teach.

    Accuracy on a task just learned is what plasticity can be measured by; on earlier tasks, that of a network which has
    never seen them. The weights are drawn from a state of their own, by the law of each module's ``reset_parameters``:
    a network that draws its first weights by another starts later tasks otherwise. UserError if some weight belongs to
    a module without that method.
    """

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        self.seed, self.tasks = seed, 0

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Refuse networks that cannot be made anew."""
        for name, module in strategy.model.named_modules():
            own = next(module.parameters(recurse=False), None)
            if own is not None and not hasattr(module, "reset_parameters"):
                raise UserError(f"scratch cannot draw the weights of {name or type(module).__name__} anew")

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Draw all weights anew, and forget what the optimizer knows of the old ones."""
        if self.tasks:
            device = next(strategy.model.parameters()).device
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                torch.manual_seed(self.seed + self.tasks)
                for module in strategy.model.modules():
                    if hasattr(module, "reset_parameters"):
                        module.reset_parameters()
            for module in strategy.model.modules():
                if hasattr(module, "constrain"):
                    module.constrain()
            strategy.optimizer.state.clear()
        self.tasks += 1


class MoreDataPlugin(SupervisedPlugin):
    """Trains each task on the data of other tasks, too: of all (``joint``), or of all so far (``cumulative``).

    With ``steps="same"`` an epoch draws as many samples as the task alone has, others in each epoch; ``"epochs"`` goes
    through all of them. UserError beside replay, which has the same data in memory and would change the number of
    steps, and beside penalties whose importances are those of a single task, where there are several heads.
    """

    def __init__(self, which: Literal["all", "so far"], *, steps: Steps = "same") -> None:
        super().__init__()
        if steps not in get_args(Steps):
            raise UserError(f"steps must be one of {', '.join(get_args(Steps))}, got '{steps}'")
        self.which, self.steps = which, steps

    def rearrange(self, benchmark: Benchmark) -> Benchmark:
        """Return the benchmark with the data to train on in the place of each task's."""
        count = len(benchmark.train)
        last = [count if self.which == "all" else task + 1 for task in range(count)]
        train = [self._joined(benchmark.train[:end], own) for end, own in zip(last, benchmark.train, strict=True)]
        return replace(benchmark, train=train)

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Refuse replay, and penalties that cannot take their importances from several heads at once."""
        if any(isinstance(plugin, AvalancheReplay | NaiveRehearsalPlugin) for plugin in strategy.plugins):
            raise UserError("joint and cumulative training see the data of other tasks anyway; leave out replay")
        if is_multi_task_module(strategy.model):
            for plugin in strategy.plugins:
                if isinstance(plugin, EWCPlugin | MASPlugin):
                    raise UserError(f"{plugin.name} takes importances one task at a time, so it does not go with this")

    def _joined(self, parts: Any, own: TaskData) -> TaskData:
        if len(parts) == 1:
            return own
        joined = Merged(parts)
        joined.epoch_samples = len(own) if self.steps == "same" else None
        return joined
