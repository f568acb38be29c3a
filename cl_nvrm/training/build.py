"""Build: what a spec's texts stand for, as live objects: benchmark, model, optimizer, plug-ins, and all their seeds."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from avalanche.training.determinism.rng_manager import RNGManager
from torch import nn

from cl_nvrm import data
from cl_nvrm.benchmark import Benchmark, Seed
from cl_nvrm.errors import MissingData, UserError
from cl_nvrm.spec import RunSpec, derived_seed, grammar
from cl_nvrm.spec.canonical import of_terms
from cl_nvrm.spec.catalog import maker, needs_data
from cl_nvrm.spec.grammar import Term
from cl_nvrm.training.loop import Strategy
from cl_nvrm.training.precision import prepare_network
from cl_nvrm.training.schedule import Schedule

PURPOSES = ("init", "batches", "training", "benchmark", "optimizer")


@dataclass(frozen=True)
class Parts:
    """A spec's texts, parsed, and the seed of each of the run's purposes; a strategy's depends on its name alone."""

    strategy: tuple[Term, ...]
    benchmark: Term
    optimizer: Term
    schedule: Term
    seeds: dict[str, int]


@lru_cache(maxsize=1000)
def parts(spec: RunSpec) -> Parts:
    """Return what a spec's texts stand for; each is parsed once."""
    strategy = grammar.parse_sum(spec.strategy)
    seeds = {purpose: derived_seed(spec.seed, purpose) for purpose in PURPOSES}
    seeds |= {f"strategy/{term.name}": derived_seed(spec.seed, "strategy", term.name) for term in strategy}
    return Parts(
        strategy,
        grammar.parse("benchmarks", spec.benchmark),
        grammar.parse("optimizers", spec.optimizer),
        grammar.parse("schedules", spec.schedule),
        seeds,
    )


def canonical(spec: RunSpec) -> RunSpec:
    """Return ``spec.canonical.canonical`` of a spec, from texts that are read for the run anyway."""
    read = parts(spec)
    return of_terms(spec, read.strategy, read.benchmark, read.optimizer, read.schedule)


@lru_cache(maxsize=1)
def _moved(images: data.Images, device: str) -> data.Images:
    """The data set on a device, where all trials of a stack, and all runs of a sweep, share it."""
    return images.to(device)


def build_benchmark(spec: RunSpec, data_dir: Path | None, device: str) -> tuple[Benchmark, data.Images | None]:
    """Build the spec's benchmark; MissingData if the data on disk are not those of the spec, by name and content."""
    term = parts(spec).benchmark
    images = None
    if needs_data(maker("benchmarks", term.name)):
        images = data.load(spec.dataset, folder=data_dir)
        if images.name != spec.dataset or not spec.dataset_sha256:
            raise UserError(f"a spec of these images has dataset='{images.name}', dataset_sha256='{images.sha256}'")
        if images.sha256 != spec.dataset_sha256:
            raise MissingData(f"'{spec.dataset}' has changed on disk since this run was planned; plan it again")
        images = _moved(images, device)
    made: Benchmark = term.make(*([images] if images else []), seed=parts(spec).seeds["benchmark"])
    if images is None and device != "cpu":
        for task in (*made.train, *made.test):
            task.images, task.labels = task.images.to(device), task.labels.to(device)
        made = replace(made, watched=tuple(watched.to(device) for watched in made.watched))
    if spec.first_tasks:
        made = replace(made, train=made.train[: spec.first_tasks], test=made.test[: spec.first_tasks])
    return rearranged(spec, made), images


def rearranged(spec: RunSpec, benchmark: Benchmark) -> Benchmark:
    """Return what the spec's strategy trains on: the benchmark, or what one of its plug-ins makes of it."""
    asking = [name for name, plugin in build_plugins(spec).items() if hasattr(plugin, "rearrange")]
    if len(asking) > 1:
        raise UserError(f"{' and '.join(asking)} each say which data to train on; take one of them")
    for name in asking:
        benchmark = build_plugins(spec)[name].rearrange(benchmark)
    return benchmark


def build_plugins(spec: RunSpec) -> dict[str, Any]:
    """Build a fresh plug-in (or None) for each term of the strategy, by name; UserError if one stands alone."""
    seeds = parts(spec).seeds
    made = {term.name: term.make(seed=seeds[f"strategy/{term.name}"]) for term in parts(spec).strategy}
    for name, plugin in made.items():
        if len(made) > 1 and getattr(plugin, "alone", False):
            raise UserError(f"{name} learns in a way that nothing can be added to; run it by itself")
    return made


def schedule_of(spec: RunSpec) -> Schedule | None:
    """Return what changes the learning rate from epoch to epoch, if anything does."""
    term = parts(spec).schedule
    return None if term.name == "constant" else Schedule(spec.lr, term.make())


def build_strategy(spec: RunSpec, benchmark: Benchmark, plugins: list[Any], device: str) -> Strategy:
    """Build a freshly initialised model with its optimizer and plug-ins, and seed the global random states."""
    model = build_model(spec, benchmark, device)
    seeds = parts(spec).seeds
    arguments = strategy_arguments(spec, model, plugins, device, optimizer_seed=seeds["optimizer"])
    return Strategy(seed=seeds["batches"], **arguments)


def build_model(spec: RunSpec, benchmark: Benchmark, device: str) -> nn.Module:
    """Build the run's freshly initialised model."""
    torch.manual_seed(parts(spec).seeds["init"])
    network = benchmark.model().to(device)
    return prepare_network(network, precision=spec.precision, channels_last=spec.channels_last, compiled=spec.compiled)


def strategy_arguments(
    spec: RunSpec, model: nn.Module, plugins: list[Any], device: str, *, optimizer_seed: Seed
) -> dict[str, Any]:
    """Return the arguments of a ``Strategy`` for this run, and seed the global random states."""
    # torch, numpy (32 bits) and random: plug-ins may use any
    RNGManager.set_random_seeds(parts(spec).seeds["training"] % 2**32)
    return {
        "model": model,
        "optimizer": build_optimizer(spec, model, optimizer_seed),
        "criterion": nn.CrossEntropyLoss(),
        "train_mb_size": spec.batch_size,
        "train_epochs": spec.epochs,
        "iterations": spec.iterations,
        "device": torch.device(device),
        "plugins": [plugin for plugin in plugins if plugin is not None],
    }


def build_optimizer(spec: RunSpec, model: nn.Module, seed: Seed) -> torch.optim.Optimizer:
    """Build the spec's optimizer over all parameters of the model."""
    term = parts(spec).optimizer
    made: torch.optim.Optimizer = term.make(model.parameters(), lr=spec.lr, weight_decay=spec.weight_decay, seed=seed)
    return made
