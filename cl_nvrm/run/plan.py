"""Plan: what a command line asks for, as specs, checked before anything is trained or written."""

import difflib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cl_nvrm.errors import UserError, counted
from cl_nvrm.run.flags import MOST_TASKS, Arguments
from cl_nvrm.spec import RunSpec, catalog, grammar
from cl_nvrm.spec.cell_names import CellNames, cell_names
from cl_nvrm.spec.kinds import check_made

MOST_RUNS = 100_000

if TYPE_CHECKING:
    from torch import nn

    from cl_nvrm.analysis.choice import Choice
    from cl_nvrm.benchmark import Benchmark, Recipe
    from cl_nvrm.data import Images


@dataclass(frozen=True)
class Plan:
    """The runs, what to call their cells, a line about them, the device, how many training images and tasks exist.

    ``choice`` says what the settings were chosen by, where they are those of a frontier. ``tune_on`` is the data set to
    tune on, with its fingerprint, where it is another one; ``training_images`` are its images then.
    """

    specs: list[RunSpec]
    names: CellNames
    about: str
    device: str
    training_images: int
    tasks: int
    choice: "Choice | None" = None
    tune_on: tuple[str, str] | None = None


def plan(arguments: Arguments, warn: Callable[[str], None]) -> Plan:
    """Turn arguments into specs.

    Whatever can be wrong with the arguments raises a UserError here, before anything is trained or written.
    """
    strategies = [terms for text in arguments.strategy for terms in grammar.grid(text, arguments.flags)]
    left = _check_flags(arguments.flags, strategies, arguments.benchmark)
    count = len(strategies) * len(arguments.lr or [None]) * arguments.trials
    if count > MOST_RUNS:
        raise UserError(f"this makes {count} runs; ask for at most {MOST_RUNS} at once")
    if arguments.scheduler and arguments.backend not in ("dask", "ray"):
        raise UserError("--scheduler is for a cluster; write --backend dask or --backend ray with it")

    from cl_nvrm import data
    from cl_nvrm.training.device import find_device

    device = find_device(arguments.device)
    term = _benchmark_term(arguments, left)
    preferred = catalog.needs_data(catalog.maker("benchmarks", term.name))
    if not preferred and arguments.data != "auto":
        raise UserError(f"--data: the benchmark '{term.name}' makes its own data; leave it out")
    images = data.load(arguments.data, preferred, arguments.data_dir, warn) if preferred else None
    benchmark = term.make(*([images] if images else []), seed=arguments.seed)
    _check_strategies(arguments, strategies)
    recipe = _recipe(arguments, benchmark.recipe)
    _check_training(arguments, benchmark, recipe, term.name)
    settings = [(strategy, lr) for strategy in map(grammar.canonical, strategies) for lr in arguments.lr or [recipe.lr]]
    choice = None
    if arguments.frontier:
        from cl_nvrm.run.frontier import choice_for, settings_near

        (wanted,) = _specs(replace(arguments, trials=1), settings, str(term), images, recipe)
        choice = None if arguments.slack else choice_for(arguments, wanted, warn)
        settings = choice.settings if choice else settings_near(arguments, wanted, warn)
    specs = _specs(arguments, settings, str(term), images, recipe)
    _check_primary(arguments, specs, choice)
    _check_starts(specs, benchmark)
    about = (
        f"{term.name}: {benchmark.scenario}; {counted(benchmark.heads, 'head')}, chance {benchmark.chance:.0%}; "
        f"data: {specs[0].dataset}; device: {device}; {counted(len(specs), 'run')}, "
        f"{_length(specs[0])} a task"
    )
    samples = len(images.train_y) if images else len(benchmark.train[0])
    tune_on = None
    if arguments.tune_on:
        other = _other_data(arguments, term, images, warn)
        tune_on, samples = (other.name, other.sha256), len(other.train_y)
    return Plan(specs, cell_names(specs), about, device, samples, len(benchmark.train), choice, tune_on)


def _check_primary(arguments: Arguments, specs: list[RunSpec], choice: "Choice | None") -> None:
    """Refuse primary contrasts that these runs cannot answer, and settings in whose folder others were judged."""
    if choice:
        from cl_nvrm.sweep.store import Store

        Store(arguments.out).check(choice)
    if not arguments.primary:
        return
    from cl_nvrm.analysis.comparisons import Contrast, check_named

    named = [Contrast.parse(text) for text in arguments.primary]
    if arguments.trials < 2:
        raise UserError("--primary: a contrast needs --trials of at least 2, and a star six")
    if choice is None:
        check_named(named, cell_names(specs))
        return
    from cl_nvrm.analysis.equal_plasticity import check_primary

    if wrong := next((text for text in arguments.primary if ": " in text), None):
        raise UserError(f"--primary '{wrong}': with --frontier accuracy kept is compared; leave out the metric")
    check_primary(choice, [(each.first, each.second) for each in named])


def _other_data(
    arguments: Arguments, benchmark: grammar.Term, images: "Images | None", warn: Callable[[str], None]
) -> "Images":
    """Return the images to tune on; UserError where the benchmark takes none, or cannot be made of these."""
    from cl_nvrm import data

    if images is None:
        raise UserError(f"--tune-on: the benchmark '{benchmark.name}' makes its own data; leave it out")
    other = data.load(str(arguments.tune_on), images.name, arguments.data_dir, warn)
    benchmark.make(other, seed=arguments.seed)
    if len(set(other.train_y.tolist())) != len(set(images.train_y.tolist())):
        raise UserError(f"--tune-on: {other.name} and {images.name} have different numbers of classes")
    return other


def _length(spec: RunSpec) -> str:
    return counted(spec.iterations, "iteration") if spec.iterations else counted(spec.epochs, "epoch")


def _benchmark_term(arguments: Arguments, flags: dict[str, str]) -> grammar.Term:
    """Return the benchmark that is meant, with its bare flags and the number of tasks."""
    tasks = {"tasks": str(arguments.tasks)} if arguments.tasks else {}
    term = grammar.parse("benchmarks", arguments.benchmark, flags | tasks)
    if arguments.tasks and "tasks" not in term.settings:
        raise UserError(f"--tasks: the benchmark '{term.name}' has no parameter 'tasks'")
    if int(term.settings.get("tasks", 1)) > MOST_TASKS:
        raise UserError(f"tasks must be at most {MOST_TASKS}: every task is tested after every task")
    return term


def _check_strategies(arguments: Arguments, strategies: list[tuple[grammar.Term, ...]]) -> None:
    """Refuse strategies that cannot be made, tuned or stacked as asked."""
    families = [grammar.family(grammar.canonical(terms)) for terms in strategies]
    for terms, family in zip(strategies, families, strict=True):
        if arguments.tune and families.count(family) > 1:
            raise UserError(f"--tune chooses the values of {family} itself; give it once, without a|b")
        for part in terms:
            made = part.make(seed=0)  # its errors belong here, not into a worker
            if arguments.stack == "on" and not (made is None or getattr(made, "elementwise", False)):
                raise UserError(f"--stack on: '{part.name}' does not work on stacked trials; write --stack auto")
    if arguments.tune and len(arguments.lr or ()) > 1:
        raise UserError("--tune chooses the learning rate itself; give --lr one value to start from, or none")


def _recipe(arguments: Arguments, recipe: "Recipe") -> "Recipe":
    """Return the benchmark's recipe with what the flags say instead, its texts spelled out."""
    return recipe.but(
        {
            "epochs": arguments.epochs or recipe.epochs,
            "batch_size": arguments.batch_size or recipe.batch_size,
            "optimizer": str(grammar.parse("optimizers", arguments.optimizer or recipe.optimizer)),
            "weight_decay": recipe.weight_decay if arguments.weight_decay is None else arguments.weight_decay,
            "schedule": str(grammar.parse("schedules", arguments.schedule or recipe.schedule)),
        }
    )


def _check_training(arguments: Arguments, benchmark: "Benchmark", recipe: "Recipe", name: str) -> None:
    """Refuse what the benchmark's network cannot be trained with."""
    from cl_nvrm.training.precision import prepare_network

    _check_size(benchmark)
    with grammar.blame(name, catalog.maker("benchmarks", name)):
        network = benchmark.model()
        check_made("models", network)
    model = prepare_network(
        network, precision=arguments.precision, channels_last=arguments.channels_last, compiled=False
    )
    optimizer = grammar.parse("optimizers", recipe.optimizer)
    optimizer.make(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, seed=0)
    _check_batches(benchmark, model, recipe.batch_size)
    if arguments.stack == "on" and benchmark.watched:
        raise UserError(f"--stack on: '{name}' is watched after every epoch, trial by trial; write --stack auto")
    grammar.parse("schedules", recipe.schedule).make()


def _specs(
    arguments: Arguments,
    settings: Sequence[tuple[str, float]],
    benchmark: str,
    images: "Images | None",
    recipe: "Recipe",
) -> list[RunSpec]:
    """Return a spec for each setting, a canonical strategy and a learning rate, and seed."""
    return [
        RunSpec(
            strategy=strategy,
            benchmark=benchmark,
            dataset=images.name if images else "synthetic",
            dataset_sha256=images.sha256 if images else "",
            seed=seed,
            epochs=0 if arguments.iterations else recipe.epochs,
            iterations=arguments.iterations or 0,
            batch_size=recipe.batch_size,
            optimizer=recipe.optimizer,
            lr=lr,
            weight_decay=recipe.weight_decay,
            eval_every=arguments.eval_every,
            schedule=recipe.schedule,
            precision=arguments.precision,  # type: ignore[arg-type]
            channels_last=arguments.channels_last,
            compiled=arguments.compile,
        )
        for strategy, lr in dict.fromkeys(settings)
        for seed in range(arguments.seed, arguments.seed + arguments.trials)
    ]


def _check_size(benchmark: "Benchmark") -> None:
    """Refuse a network whose weights do not fit into this machine's memory."""
    import torch

    size = memory = 0
    with suppress(Exception), torch.device("meta"):  # of a network that cannot be made so, nothing is known
        size = sum(p.numel() * p.element_size() for p in benchmark.model().parameters())
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if memory and size > memory:
        raise UserError(
            f"the network has {size / 2**30:.0f} GiB of weights, this machine {memory / 2**30:.0f} of memory"
        )


def _check_starts(specs: list[RunSpec], benchmark: "Benchmark") -> None:
    """Refuse strategies that this benchmark's network cannot be trained by."""
    for spec in {spec.strategy: spec for spec in specs}.values():
        if spec.strategy != grammar.NEUTRAL:
            from cl_nvrm.training.start import try_start  # needs Avalanche, which plain training asks nothing of here

            try_start(spec, benchmark)


def _check_flags(flags: dict[str, str], strategies: list[tuple[grammar.Term, ...]], benchmark: str) -> dict[str, str]:
    """Return the bare flags that are the benchmark's, as no strategy has them; refuse one that is nobody's."""
    taken = {key for terms in strategies for term in terms for key in term.settings}
    name = benchmark.partition(":")[0].strip().replace("_", "-")
    own = catalog.parameters(catalog.maker("benchmarks", name))
    left = {flag: value for flag, value in flags.items() if flag not in taken and flag in own}
    for flag in flags.keys() - taken - left.keys():
        owners = []
        for other in catalog.names("strategies"):
            with suppress(UserError):
                if flag in catalog.parameters(catalog.maker("strategies", other)):
                    owners.append(other)
        given = " and ".join(grammar.short(terms) for terms in strategies)
        if owners:
            raise UserError(f"--{flag} is taken by {', '.join(owners)}, not by {given}; write --strategy {owners[0]}")
        near = difflib.get_close_matches(flag, [*taken, *own, *Arguments.flag_names()], n=1)
        hint = f"did you mean --{near[0]}?" if near else "--help lists the flags"
        raise UserError(f"No flag --{flag}, and {given} on {name} has no such parameter; {hint}")
    return left


def _check_batches(benchmark: "Benchmark", model: "nn.Module", batch_size: int) -> None:
    """Refuse batches of one sample where batch normalisation needs two."""
    from torch import nn

    single = batch_size == 1 or any(len(task) % batch_size == 1 for task in benchmark.train)
    if single and any(isinstance(module, nn.BatchNorm1d) for module in model.modules()):
        raise UserError(
            f"--batch-size {batch_size} leaves a batch of one sample, which cannot be normalised; take another"
        )
