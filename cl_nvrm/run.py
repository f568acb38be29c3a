"""``python -m cl_nvrm.run``: arguments to specs, specs through a sweep, results to tables and figures."""

import difflib
import json
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from cl_nvrm import catalog, compose
from cl_nvrm.arguments import Arguments, parse
from cl_nvrm.errors import Diverged, UserError
from cl_nvrm.labels import Labels, labels
from cl_nvrm.spec import RunResult, RunSpec
from cl_nvrm.store import Store

FAILED, STOPPED, INTERRUPTED = 1, 75, 130


class Stopped(BaseException):
    """SIGTERM: what is finished is stored, the same command goes on from there."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors a user can cause become one line on stderr."""
    errors = Console(stderr=True)
    try:
        signal.signal(signal.SIGTERM, _stop)
        return _run(parse(sys.argv[1:] if argv is None else argv), errors)
    except UserError as problem:
        errors.print(f"cl_nvrm: {problem}", soft_wrap=True, highlight=False, markup=False)
        return problem.code
    except KeyboardInterrupt:
        errors.print(
            "cl_nvrm: interrupted; finished runs are kept, the same command goes on from there", soft_wrap=True
        )
        return INTERRUPTED
    except Stopped:
        errors.print("cl_nvrm: stopped; finished runs are kept, the same command goes on from there", soft_wrap=True)
        return STOPPED


def _run(arguments: Arguments, errors: Console) -> int:
    if arguments.list is not None:
        _list(arguments.list, as_json=arguments.format == "json")
        return 0
    names, specs, about = plan(arguments, lambda line: errors.print(f"note: {line}", soft_wrap=True, highlight=False))
    if not arguments.quiet:
        errors.print(about, soft_wrap=True, highlight=False, markup=False)
    store = Store(arguments.out)
    if arguments.dry_run:
        for spec in specs:
            state = "stored" if store.get(spec.id) and not arguments.fresh else "to do"
            print(f"{spec.id}  {state}  seed {spec.seed}  {spec.strategy}")
        return 0
    store.prepare()
    results = _sweep(arguments, specs, names, store, errors)
    for result in results:
        if "traceback" in result.provenance:
            log = store.folder / f"{result.id}.failed.txt"
            log.write_text(result.provenance["traceback"], encoding="utf-8")
            errors.print(f"cl_nvrm: {result.error}; the traceback is in {log}", soft_wrap=True, markup=False)
    _show(arguments, results, names, store)
    statuses = {result.status for result in results}
    return FAILED if "failed" in statuses else Diverged.code if "diverged" in statuses else 0


def plan(arguments: Arguments, warn: Any) -> tuple[Labels, list[RunSpec], str]:
    """Turn arguments into specs; return what to call their cells, the specs, and a line that says what will run.

    Whatever can be wrong with the arguments raises a UserError here, before anything is trained or written.
    """
    strategies = [terms for text in arguments.strategy for terms in compose.grid(text, arguments.flags)]
    _check_flags(arguments.flags, strategies)
    device = _device(arguments.device)
    term = compose.parse("benchmarks", arguments.benchmark, {"tasks": str(arguments.tasks)} if arguments.tasks else {})
    if arguments.tasks and "tasks" not in term.settings:
        raise UserError(f"--tasks: the benchmark '{term.name}' has no parameter 'tasks'")

    from cl_nvrm import data

    preferred = catalog.needs_data(catalog.maker("benchmarks", term.name))
    images = data.load(arguments.data, preferred, arguments.data_dir, warn) if preferred else None
    benchmark = term.make(*([images] if images else []), seed=arguments.seed)
    for terms in strategies:
        for part in terms:
            made = part.make(seed=0)  # its errors belong here, not into a worker
            if arguments.stack == "on" and not (made is None or getattr(made, "elementwise", False)):
                raise UserError(f"--stack on: '{part.name}' does not work on stacked trials; write --stack auto")
    recipe = benchmark.recipe
    optimizer = compose.parse("optimizers", arguments.optimizer or recipe.optimizer)
    optimizer.make(benchmark.model().parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, seed=0)
    specs = [
        RunSpec(
            strategy=strategy,
            benchmark=str(term),
            dataset=images.name if images else "synthetic",
            dataset_sha256=images.sha256 if images else "",
            seed=seed,
            epochs=arguments.epochs or recipe.epochs,
            batch_size=arguments.batch_size or recipe.batch_size,
            optimizer=str(optimizer),
            lr=lr,
            weight_decay=recipe.weight_decay if arguments.weight_decay is None else arguments.weight_decay,
            eval_every=arguments.eval_every,
        )
        for strategy in dict.fromkeys(map(compose.canonical, strategies))
        for lr in arguments.lr or [recipe.lr]
        for seed in range(arguments.seed, arguments.seed + arguments.trials)
    ]
    about = (
        f"{term.name}: {benchmark.scenario}; {benchmark.heads} head{'s' * (benchmark.heads > 1)}, chance "
        f"{benchmark.chance:.0%}; data: {specs[0].dataset}; device: {device}; {len(specs)} "
        f"run{'s' * (len(specs) > 1)}, {specs[0].epochs} epoch{'s' * (specs[0].epochs > 1)} a task"
    )
    return labels(specs), specs, about


def _sweep(arguments: Arguments, specs: list[RunSpec], names: Labels, store: Store, errors: Console) -> list[RunResult]:
    from cl_nvrm.progress import SweepProgress
    from cl_nvrm.sweep import Workers, sweep

    workers = Workers(
        jobs=arguments.jobs,
        stack=arguments.stack,
        backend=arguments.backend,
        device=_device(arguments.device),
        data_dir=arguments.data_dir,
    )
    missing = len(specs) if arguments.fresh else sum(store.get(spec.id) is None for spec in specs)
    if missing < len(specs) and not arguments.quiet:
        errors.print(f"{len(specs) - missing} of {len(specs)} runs are stored already", highlight=False)
    with SweepProgress(errors, missing, names, quiet=arguments.quiet) as progress:
        return sweep(specs, store, workers, fresh=arguments.fresh, on_result=progress.done, on_progress=progress.part)


def _show(arguments: Arguments, results: list[RunResult], names: Labels, store: Store) -> None:
    from cl_nvrm import tables
    from cl_nvrm.analysis.comparisons import cells, comparisons

    figures = _draw(results, names, store.folder / "figures") if arguments.plots else []
    groups = cells(results, names)
    compared = comparisons(groups, ("base task", "ACC"))
    if arguments.format == "json":
        print(json.dumps(tables.as_json(results, compared, figures, store.folder)))
    else:
        console = Console()
        console = console if console.is_terminal else Console(width=140)
        by_name = {cell.name: cell.results for cell in groups}
        tables.write(console, by_name, compared, figures, store.folder)


def _draw(results: list[RunResult], names: Labels, folder: Path) -> list[Path]:
    import matplotlib

    from cl_nvrm import figures

    runs = figures.table(results, names)
    if runs.empty:
        return []
    trials = runs.groupby("strategy").seed.nunique()
    spec = results[0].spec
    count = str(trials.min()) if trials.min() == trials.max() else f"{trials.min()} to {trials.max()}"
    title = f"{spec.benchmark.partition(':')[0]} on {spec.dataset}, n = {count}"
    drawn = {
        "base_task": figures.base_task_curve(runs, title),
        "mean_accuracy": figures.mean_accuracy_curve(runs, title),
        "accuracy_matrix": figures.accuracy_matrices(runs, title),
    }
    paths = []
    try:
        folder.mkdir(exist_ok=True)
        # The same numbers give the same files: no dates, no random ids.
        with matplotlib.rc_context({"svg.hashsalt": "cl_nvrm"}):
            for name, figure in drawn.items():
                for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
                    path = folder / f"{name}.{suffix}"
                    figure.savefig(path, dpi=150, metadata=metadata)
                    paths.append(path)
    except OSError as problem:
        raise UserError(f"Cannot write figures to {folder} ({problem.strerror}); the runs are stored") from problem
    return paths


def _check_flags(flags: dict[str, str], strategies: list[tuple[compose.Term, ...]]) -> None:
    """Refuse a bare flag that no given strategy takes, naming one that would."""
    taken = {key for terms in strategies for term in terms for key in term.settings}
    for flag in flags.keys() - taken:
        owners = []
        for name in catalog.names("strategies"):
            with suppress(UserError):
                if flag in catalog.parameters(catalog.maker("strategies", name)):
                    owners.append(name)
        given = " and ".join(compose.short(terms) for terms in strategies)
        if owners:
            raise UserError(
                f"--{flag} is taken by {' and '.join(owners)}, not by {given}; write --strategy {owners[0]}"
            )
        near = difflib.get_close_matches(flag, [*taken, *Arguments.flag_names()], n=1)
        hint = f"did you mean --{near[0]}?" if near else "--help lists the flags"
        raise UserError(f"No flag --{flag}, and {given} has no such parameter; {hint}")


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as problem:
        raise UserError(f"--device {name} is not available here; write --device cpu or --device auto") from problem
    return str(device)


def _list(kind: str, *, as_json: bool) -> None:
    entries: dict[str, dict[str, Any]] = {}
    for name in catalog.names(kind):
        try:
            made = catalog.maker(kind, name)
        except UserError as problem:  # one broken file does not hide the others
            entries[name] = {"summary": str(problem), "parameters": {}}
            continue
        defaults = {key: p.default for key, p in catalog.parameters(made).items()}
        entries[name] = {"summary": catalog.summary(made), "parameters": defaults}
    if as_json:
        print(json.dumps({kind: entries}))
        return
    for name, entry in entries.items():
        print(f"{name}: {entry['summary']}")
        for key, default in entry["parameters"].items():
            print(f"    {key} = {compose.written(default)}")


def _stop(*_: object) -> NoReturn:
    raise Stopped


if __name__ == "__main__":
    sys.exit(main())
