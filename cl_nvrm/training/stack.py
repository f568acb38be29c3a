"""Stack: several trials as one training run, for devices that are idle with a single one.

The members' weights gain a leading axis, the trial: one forward pass of batched matrix products, one optimizer step
over all. Each member keeps its own seeds, data, batch order and noise, so it becomes what it would have become alone,
up to the rounding of differently shaped matrix products.
"""

import inspect
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import cross_entropy
from torch.nn.modules.dropout import _DropoutNd

from cl_nvrm.benchmark import Batch, Benchmark, TaskData
from cl_nvrm.errors import Diverged, UserError
from cl_nvrm.spec import RunResult, RunSpec, catalog
from cl_nvrm.training.build import build_benchmark, build_model, canonical, parts, schedule_of, strategy_arguments
from cl_nvrm.training.loop import Strategy
from cl_nvrm.training.record import Curves, LossRecord, Trace
from cl_nvrm.training.train import History, OnTask, Training, circumstances, result_of, train_tasks


class StackedTask(TaskData):
    """The same task of several trials, batch by batch side by side: images (trials, n, …), labels (trials, n)."""

    def __init__(self, members: Sequence[TaskData]) -> None:
        self.members = tuple(members)
        first = members[0]
        if any(len(member) != len(first) for member in members):
            raise UserError("trials whose tasks differ in size cannot be stacked; write --stack off")
        for name in ("images", "labels", "rows", "permutation", "task", "targets", "augment"):
            setattr(self, name, getattr(first, name))

    def gather(self, index: Tensor) -> Batch:
        """Return the samples at ``index``, (trials, m), or (m,) for the same of all trials."""
        each = index if index.ndim == 2 else index.expand(len(self.members), -1)
        batches = [member.gather(one) for member, one in zip(self.members, each, strict=True)]
        return [torch.stack(column) for column in zip(*batches, strict=True)]


class StackedStrategy(Strategy):
    """A strategy whose loss has one entry a trial; their sum is what is differentiated."""

    def __init__(self, *, trials: int, **arguments: Any) -> None:
        self.trials = trials
        super().__init__(**arguments)
        self._criterion = _cross_entropies

    def _make_empty_loss(self) -> Tensor:
        return torch.zeros(self.trials, device=self.device)

    def backward(self) -> None:
        """Differentiate the sum: a weight has a gradient from its own trial's loss only."""
        self.gradient_passes += 1
        self.loss.sum().backward(retain_graph=self.retain_graph)


def stacked(members: Sequence[nn.Module]) -> Any:
    """Return one module with the members' parameters, under their names, along a leading axis.

    It maps (trials, n, …) inputs to (trials, n, classes) logits; its ``members()`` are ordinary modules that share its
    memory. UserError for models with buffers (running statistics) or dropout, which this cannot keep apart.
    """
    first = members[0]
    if next(first.buffers(), None) is not None or any(isinstance(m, _DropoutNd) for m in first.modules()):
        raise UserError(f"{type(first).__name__} has buffers or dropout and cannot be stacked; write --stack off")
    together: Any = deepcopy(first)
    for name, parameter in first.named_parameters():
        place, _, last = name.rpartition(".")
        joined = nn.Parameter(torch.stack([m.get_parameter(name).detach() for m in members]))
        setattr(together.get_submodule(place), last, joined.requires_grad_(parameter.requires_grad))
    blank = deepcopy(first).to("meta")

    def forward(x: Tensor, task: Tensor | int | None = None) -> Tensor:
        labels = () if task is None else (task if isinstance(task, int) else int(task.flatten()[0]),)
        weights = dict(together.named_parameters())
        logits: Tensor = vmap(lambda w, one: functional_call(blank, w, (one, *labels)))(weights, x)
        return logits

    def alone() -> list[nn.Module]:
        unstacked = []
        for trial in range(len(members)):
            member = deepcopy(blank)
            for name, parameter in together.named_parameters():
                place, _, last = name.rpartition(".")
                view = nn.Parameter(parameter.detach()[trial], requires_grad=parameter.requires_grad)
                setattr(member.get_submodule(place), last, view)
            unstacked.append(member)
        return unstacked

    together.forward, together.members = forward, alone
    return together


def stackable(spec: RunSpec) -> bool:
    """Return whether a spec's plug-ins work on stacked weights, as each says (``elementwise``), and its optimizer does.

    An optimizer's module says so by ELEMENTWISE.
    """
    terms = parts(spec).strategy
    optimizer = catalog.maker("optimizers", parts(spec).optimizer.name)
    if not getattr(inspect.getmodule(optimizer), "ELEMENTWISE", False):
        return False
    return all(made is None or getattr(made, "elementwise", False) for made in (term.make(seed=0) for term in terms))


def run_stack(
    specs: Sequence[RunSpec],
    *,
    data_dir: Path | None = None,
    device: str = "cpu",
    threads: int | None = None,
    on_task: OnTask = lambda *_: None,
    checkpoint: Path | None = None,
) -> list[RunResult]:
    """Train runs that differ in nothing but their seed as one; arguments as for ``run_one``.

    Diverged if a trial does: run one by one, the others then end as they should. UserError if the strategy, the
    optimizer or the model cannot be stacked. The seconds of each result are its share of the stack's.
    """
    specs = [canonical(spec) for spec in specs]
    first = specs[0]
    if any(replace(spec, seed=first.seed) != first for spec in specs):
        raise ValueError("only runs that differ in nothing but their seed can be stacked")
    if not stackable(first):
        raise UserError(
            f"'{first.strategy}' has a plug-in or an optimizer that cannot work on stacked trials; write --stack off"
        )
    if threads is not None:
        torch.set_num_threads(threads)
    built = [build_benchmark(spec, data_dir, device) for spec in specs]
    benchmarks = [benchmark for benchmark, _ in built]
    if any(benchmark.watched or benchmark.train[0].augment for benchmark in benchmarks):
        raise UserError("a benchmark that is watched after every epoch cannot be stacked; write --stack off")
    together = _side_by_side(benchmarks)
    seeds = {purpose: tuple(parts(spec).seeds[purpose] for spec in specs) for purpose in parts(first).seeds}
    terms = parts(first).strategy

    def build() -> Training:
        models = [build_model(spec, benchmark, device) for spec, benchmark in zip(specs, benchmarks, strict=True)]
        plugins = {term.name: term.make(seed=seeds[f"strategy/{term.name}"]) for term in terms}
        record, trace, curves = LossRecord(), Trace(first.eval_every, together.test), Curves(())
        others = [*plugins.values(), record, trace, schedule_of(first)]
        arguments = strategy_arguments(first, stacked(models), others, device, optimizer_seed=seeds["optimizer"])
        strategy = StackedStrategy(trials=len(specs), seed=seeds["batches"], **arguments)
        return Training(strategy, together, plugins, record, trace, curves)

    training, history = train_tasks(build, checkpoint, on_task)
    if history.status == "diverged":
        raise Diverged(f"a trial of the stack diverged ({history.error})")
    results = []
    for trial, (spec, (benchmark, images), member) in enumerate(
        zip(specs, built, training.strategy.model.members(), strict=True)
    ):
        told = {**circumstances(spec, benchmark, images, device), "stack": len(specs)}
        results.append(result_of(spec, _of_trial(history, trial, len(specs)), member, benchmark, told))
    return results


def _side_by_side(benchmarks: list[Benchmark]) -> Benchmark:
    trains = zip(*(benchmark.train for benchmark in benchmarks), strict=True)
    tests = zip(*(benchmark.test for benchmark in benchmarks), strict=True)
    return replace(benchmarks[0], train=[StackedTask(t) for t in trains], test=[StackedTask(t) for t in tests])


def _of_trial(history: History, trial: int, trials: int) -> History:
    def own(rows: list[list[Any]]) -> list[list[Any]]:
        return [[entry[trial] for entry in row] for row in rows]

    return History(
        initial=own([history.initial])[0],
        trace=[(task, iteration, own([row])[0]) for task, iteration, row in history.trace],
        accuracy=own(history.accuracy),
        losses=own(history.losses),
        diagnostics={
            name: [
                {key: value[trial] if isinstance(value, list) else value for key, value in task.items()} for task in t
            ]
            for name, t in history.diagnostics.items()
        },
        gradient_passes=history.gradient_passes,
        train_seconds=history.train_seconds / trials,
        eval_seconds=history.eval_seconds / trials,
    )


def _cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    each: Callable[[Tensor, Tensor], Tensor] = vmap(cross_entropy)
    return each(logits, labels)
