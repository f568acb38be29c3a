"""``python -m cl_nvrm.run``: arguments to specs, specs through a sweep, results to tables and figures."""

import json
import math
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console

from cl_nvrm import catalog, compose
from cl_nvrm.arguments import Arguments, parse
from cl_nvrm.errors import Diverged, UserError
from cl_nvrm.labels import Labels, labels, setting, short_name
from cl_nvrm.plan import Plan, plan
from cl_nvrm.spec import RunResult, RunSpec
from cl_nvrm.store import Store
from cl_nvrm.track import Tracking

if TYPE_CHECKING:
    from cl_nvrm.analysis.comparisons import Cell
    from cl_nvrm.sweep import Workers

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
        errors.print(f"cl_nvrm: interrupted; {_how_to_go_on(argv)}", soft_wrap=True)
        return INTERRUPTED
    except Stopped:
        errors.print(f"cl_nvrm: stopped; {_how_to_go_on(argv)}", soft_wrap=True)
        return STOPPED


def _how_to_go_on(argv: Sequence[str] | None) -> str:
    fresh = ", without --fresh," if "--fresh" in (sys.argv if argv is None else argv) else ""
    return f"finished runs and tasks are kept, the same command{fresh} goes on from there"


def _run(arguments: Arguments, errors: Console) -> int:
    if arguments.list is not None:
        _list(arguments.list, as_json=arguments.format == "json")
        return 0

    def warn(line: str) -> None:
        errors.print(f"note: {line}", soft_wrap=True, highlight=False, markup=False)

    planned = plan(arguments, warn)
    specs, names = planned.specs, planned.names
    if not arguments.quiet:
        errors.print(planned.about, soft_wrap=True, highlight=False, markup=False)
    store = Store(arguments.out)
    if arguments.dry_run:
        _dry_run(arguments, planned, store)
        return 0
    store.prepare()
    tracking = Tracking(arguments.track, store.folder, warn)
    if arguments.tune:
        specs = _tuned(arguments, planned, errors)
        names = labels(specs)
    results = _sweep(arguments, planned.device, specs, names, store, errors, tracking)
    for result in results:
        tracking.tell(result, names[result.spec.cell], store.events(result.id).read(), again=False)
    for result in results:
        if "traceback" in result.provenance:
            log = store.folder / f"{result.id}.failed.txt"
            log.write_text(result.provenance["traceback"], encoding="utf-8")
            errors.print(f"cl_nvrm: {result.error}; the traceback is in {log}", soft_wrap=True, markup=False)
    _show(arguments, results, names, store)
    statuses = {result.status for result in results}
    return FAILED if "failed" in statuses else Diverged.code if "diverged" in statuses else 0


def _dry_run(arguments: Arguments, planned: Plan, store: Store) -> None:
    """Print every run with its state and about how long it takes."""
    from cl_nvrm import estimate, tables

    stored = {result.id: result for result in store.load()[0]}
    # What tuning will choose, and whether it is stored, is not known yet.
    to_do = [spec for spec in planned.specs if arguments.fresh or arguments.tune or spec.id not in stored]
    workers = _workers(arguments, planned.device)
    jobs, threads = workers.for_runs(len(to_do))
    about = estimate.seconds(to_do, list(stored.values()), arguments.data_dir, planned.device, threads)
    for spec in planned.specs:
        state = f"to do, {tables.duration(about[spec.id])}" if spec.id in about else "stored"
        if arguments.tune:
            state = f"to be tuned, {tables.duration(about.get(spec.id, math.nan))}"
        print(f"{spec.id}  {state}  seed {spec.seed}  lr {spec.lr:g}  {spec.strategy}")
    at_once = f"{jobs} at once" if jobs > 0 else "on the cluster, one at a time"
    total = tables.duration(sum(about.values()) / max(1, jobs))
    tuning = (
        f"; before that, {arguments.tune} trials a strategy on {arguments.tune_tasks} tasks" if arguments.tune else ""
    )
    print(f"{len(to_do)} of {len(planned.specs)} runs to do, {total} with {at_once}{tuning}")


def _tuned(arguments: Arguments, planned: Plan, errors: Console) -> list[RunSpec]:
    """Search every strategy's values; return the specs of the trials to report, with what was found."""
    from cl_nvrm.tune import Budget, Search, tune

    folder = arguments.out / "tuning"
    tasks = min(arguments.tune_tasks, planned.tasks)
    budget = Budget(arguments.tune, tasks, planned.training_images // 6, arguments.tune_seeds)
    searches = {cell: Search(cell, budget, folder) for cell in planned.names}
    runs = Store(folder / "runs")
    runs.prepare()

    def run(trials: list[RunSpec]) -> list[RunResult]:
        return _sweep(replace(arguments, fresh=False), planned.device, trials, labels(trials), runs, errors)

    tune(list(searches.values()), run)
    for search in searches.values():
        if not arguments.quiet:
            found = search.chosen(arguments.seed)
            line = f"tuned: {short_name(found.strategy)}, lr {found.lr:g}; {found.chosen}"
            errors.print(line, soft_wrap=True, highlight=False, markup=False)
    return [searches[spec.cell].chosen(spec.seed) for spec in planned.specs]


def _sweep(
    arguments: Arguments,
    device: str,
    specs: list[RunSpec],
    names: Labels,
    store: Store,
    errors: Console,
    tracking: Tracking | None = None,
) -> list[RunResult]:
    from cl_nvrm.progress import SweepProgress
    from cl_nvrm.sweep import sweep

    workers = _workers(arguments, device)
    keep_weights = arguments.keep_weights and tracking is not None  # of the runs asked for, not of a search's
    missing = len(specs) if arguments.fresh else sum(store.found(spec.id, keep_weights) is None for spec in specs)
    if missing < len(specs) and not arguments.quiet:
        errors.print(f"{len(specs) - missing} of {len(specs)} runs are stored already", highlight=False)
    with SweepProgress(errors, missing, names, quiet=arguments.quiet) as progress:

        def done(result: RunResult) -> None:
            progress.done(result)
            if tracking is not None:
                tracking.tell(result, names[result.spec.cell], store.events(result.id).read())

        return sweep(
            specs,
            store,
            workers,
            fresh=arguments.fresh,
            keep_weights=keep_weights,
            on_result=done,
            on_progress=progress.part,
        )


def _workers(arguments: Arguments, device: str) -> "Workers":
    from cl_nvrm.sweep import Workers

    # Said outright: workers that are kept from an earlier sweep, or run elsewhere, have an environment of their own.
    data_dir = arguments.data_dir or (Path(os.environ["CL_NVRM_DATA"]) if os.environ.get("CL_NVRM_DATA") else None)
    return Workers(
        jobs=arguments.jobs,
        stack=arguments.stack,
        backend=arguments.backend,
        scheduler=arguments.scheduler,
        device=device,
        data_dir=data_dir.resolve() if data_dir else None,
    )


def _show(arguments: Arguments, results: list[RunResult], names: Labels, store: Store) -> None:
    from cl_nvrm import tables
    from cl_nvrm.analysis.comparisons import cells, comparisons

    groups = cells(results, names)
    figures = _draw(results, groups, names, store.folder / "figures") if arguments.plots else []
    compared = comparisons(groups, ("base task", "ACC", "memorised"))
    if arguments.format == "json":
        print(json.dumps(tables.as_json(results, compared, figures, store.folder)))
    else:
        console = Console()
        console = console if console.is_terminal else Console(width=140)
        by_name = {cell.name: cell.results for cell in groups}
        tables.write(console, by_name, compared, figures, store.folder)


def _draw(results: list[RunResult], groups: "list[Cell]", names: Labels, folder: Path) -> list[Path]:
    import matplotlib

    from cl_nvrm import figures
    from cl_nvrm.analysis.frontier import families, several_settings

    runs = figures.table(results, names)
    if runs.empty:
        return []
    trials = runs.groupby("strategy").seed.nunique()
    spec = results[0].spec
    count = str(trials.min()) if trials.min() == trials.max() else f"{trials.min()} to {trials.max()}"
    title = f"{setting(spec)}, n = {count}"
    drawn = {}
    by_epoch = any(result.curves for result in results if result.status == "done")
    if runs.task.max() > 1 or not by_epoch:
        drawn = {
            "base_task": figures.base_task_curve(runs, title),
            "mean_accuracy": figures.mean_accuracy_curve(runs, title),
            "accuracy_matrix": figures.accuracy_matrices(runs, title),
        }
    if by_epoch:
        drawn["epoch_curves"] = figures.epoch_curves(results, names, title)
    by_family = families(groups)
    if several_settings(by_family):
        drawn["frontier"] = figures.frontier(by_family, title)
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
