"""Execute: a plan through tuning, the sweep and the trackers, to results."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from cl_nvrm import deferred
from cl_nvrm.errors import FAILED, Diverged, counted, note
from cl_nvrm.run.flags import Arguments
from cl_nvrm.run.plan import Plan, plan
from cl_nvrm.spec import RunResult, RunSpec, folders
from cl_nvrm.spec.cell_names import CellNames, cell_names, short_name
from cl_nvrm.sweep.store import Store
from cl_nvrm.sweep.track import Tracking

if TYPE_CHECKING:
    from cl_nvrm.run.results import Results
    from cl_nvrm.sweep.sweep import Workers

GOES_ON = "finished runs and tasks are kept, the same command{} goes on from there"


def start_workers(arguments: Arguments) -> None:
    """Let what worker processes need be imported while the plan is made, if there may be any."""
    texts = [*arguments.strategy, *arguments.flags.values()]
    cells = len(arguments.strategy) * len(arguments.lr or [None])
    several = cells * arguments.trials > 1 or "|" in "".join(texts) or arguments.tune or arguments.frontier
    if several and arguments.jobs != 1 and arguments.backend == "processes" and not arguments.dry_run:
        from cl_nvrm.sweep import processes

        processes.start()


def prepare(arguments: Arguments) -> Plan:
    """Plan what is asked, and say on stderr what that is; UserError for whatever is wrong with it."""
    for remark in folders.remarks():
        note(remark)
    start_workers(arguments)
    with deferred.garbage():
        planned = plan(arguments, note)
    if not arguments.quiet:
        Console(stderr=True).print(planned.about, soft_wrap=True, highlight=False, markup=False)
    return planned


def conduct(arguments: Arguments, planned: Plan) -> "Results":
    """Do what is planned and return its results: what the command line and ``cl_nvrm.run`` have in common."""
    results, names = carry_out(arguments, planned, Console(stderr=True))

    from cl_nvrm.analysis.comparisons import Contrast  # now: what this imports would have kept the first run waiting
    from cl_nvrm.run.results import Results

    if elsewhere := len(set(planned.specs)) - len(results):
        note(f"{counted(elsewhere, 'run')} under way in other commands; whichever ends last shows the results of all")
    primary = tuple(map(Contrast.parse, arguments.primary))
    return Results(tuple(results), names, arguments.out, primary, arguments.margin, planned.choice)


def carry_out(arguments: Arguments, planned: Plan, stderr: Console) -> tuple[list[RunResult], CellNames]:
    """Do what is planned, in the folder ``--out``; return all results and what to call their cells.

    The traceback of a run that failed goes to a file beside the results.
    """
    store = Store(arguments.out)
    store.prepare()
    if planned.choice:
        store.keep(planned.choice)
    tracking = Tracking(arguments.track, store.folder, note)
    specs, names = planned.specs, planned.names
    if arguments.tune:
        specs = _tune(arguments, planned, stderr)
        names = cell_names(specs)
    results = _sweep(arguments, planned.device, specs, names, store, stderr, tracking)
    for result in results:
        tracking.tell(result, names[result.spec.cell], store.run_log(result.id).read(), again=False)
    for result in results:
        if "traceback" in result.provenance:
            log = store.folder / f"{result.id}.failed.txt"
            log.write_text(result.provenance["traceback"], encoding="utf-8")
            stderr.print(f"cl_nvrm: {result.error}; the traceback is in {log}", soft_wrap=True, markup=False)
    return results, names


def outcome(results: Sequence[RunResult]) -> int:
    """Return the exit code of a command with these results."""
    statuses = {result.status for result in results}
    return FAILED if "failed" in statuses else Diverged.code if "diverged" in statuses else 0


def _tune(arguments: Arguments, planned: Plan, stderr: Console) -> list[RunSpec]:
    """Search every strategy's values; return the specs of the trials to report, with what was found."""
    from cl_nvrm.report.save import save
    from cl_nvrm.report.tuning import best_so_far
    from cl_nvrm.sweep.tune import Budget, Search, best_of, tune

    folder = arguments.out / "tuning"
    tasks = min(arguments.tune_tasks, planned.tasks)
    budget = Budget(arguments.tune, tasks, planned.training_images // 6, arguments.tune_seeds)
    searches = {
        cell: [Search(cell, budget, folder, k, planned.tune_on) for k in range(arguments.tune_searches)]
        for cell in planned.names
    }
    runs = Store(folder / "runs")
    runs.prepare()

    def run(trials: list[RunSpec]) -> list[RunResult]:
        return _sweep(replace(arguments, fresh=False), planned.device, trials, cell_names(trials), runs, stderr)

    tune([search for group in searches.values() for search in group], run)
    chosen = {}
    for cell, group in searches.items():
        best = best_of(group)
        others = group if len(group) > 1 else ()
        chosen[cell] = found = best.chosen(arguments.seed, others)
        name = short_name(found.strategy)
        if not arguments.quiet:
            line = f"tuned: {name}, lr {found.lr:g}; {found.chosen}"
            stderr.print(line, soft_wrap=True, highlight=False, markup=False)
        for doubt in best.doubts():
            note(f"tuned: {name}: {doubt}")
    if arguments.plots:
        curves = {planned.names[cell]: [search.best_so_far() for search in group] for cell, group in searches.items()}
        save({"tuning": best_so_far(curves)}, arguments.out / "figures")
    return [replace(chosen[spec.cell], seed=spec.seed) for spec in planned.specs]


def _sweep(
    arguments: Arguments,
    device: str,
    specs: list[RunSpec],
    names: CellNames,
    store: Store,
    stderr: Console,
    tracking: Tracking | None = None,
) -> list[RunResult]:
    from cl_nvrm.run.progress import SweepProgress
    from cl_nvrm.sweep.sweep import sweep

    workers = workers_of(arguments, device)
    keep_weights = arguments.keep_weights and tracking is not None  # of the runs asked for, not of a search's
    missing = len(specs) if arguments.fresh else sum(store.find(spec.id, keep_weights) is None for spec in specs)
    if missing < len(specs) and not arguments.quiet:
        stderr.print(f"{len(specs) - missing} of {counted(len(specs), 'run')} stored already", highlight=False)
    with SweepProgress(stderr, missing, names, quiet=arguments.quiet) as progress:

        def done(result: RunResult) -> None:
            progress.done(result)
            if tracking is not None:
                tracking.tell(result, names[result.spec.cell], store.run_log(result.id).read())

        return sweep(
            specs,
            store,
            workers,
            fresh=arguments.fresh,
            keep_weights=keep_weights,
            wait=arguments.wait,
            on_result=done,
            on_progress=progress.part,
        )


def workers_of(arguments: Arguments, device: str) -> "Workers":
    """Return where the runs of a command are computed."""
    from cl_nvrm.sweep.sweep import Workers

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
