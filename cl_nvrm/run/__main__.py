"""``python -m cl_nvrm.run``: arguments to specs, specs through a sweep, results to tables and figures."""

import json
import math
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from cl_nvrm import deferred
from cl_nvrm.errors import UserError, counted, exit_code, leave, note
from cl_nvrm.run.execute import GOES_ON, carry_out, outcome, start_workers, workers_of
from cl_nvrm.run.flags import Arguments, parse
from cl_nvrm.run.plan import Plan, plan
from cl_nvrm.spec import RunResult, catalog, folders, grammar
from cl_nvrm.spec.cell_names import CellNames
from cl_nvrm.sweep.store import Store


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors a user can cause become one line on stderr."""
    words = sys.argv[1:] if argv is None else argv
    without = ", without --fresh," if "--fresh" in words else ""
    return exit_code(lambda: _run(parse(words)), goes_on=GOES_ON.format(without))


def _run(arguments: Arguments) -> int:
    for remark in folders.remarks():
        note(remark)
    if arguments.list is not None:
        _list(arguments.list, as_json=arguments.format == "json")
        return 0

    start_workers(arguments)
    stderr = Console(stderr=True)
    with deferred.garbage():
        planned = plan(arguments, note)
    if not arguments.quiet:
        stderr.print(planned.about, soft_wrap=True, highlight=False, markup=False)
    store = Store(arguments.out)
    if arguments.dry_run:
        _dry_run(arguments, planned, store)
        return 0
    results, names = carry_out(arguments, planned, stderr)
    elsewhere = len(set(planned.specs)) - len(results)
    if elsewhere:
        note(f"{counted(elsewhere, 'run')} under way in other commands; whichever ends last shows the results of all")
    if not elsewhere or arguments.format == "json":
        _show(arguments, planned, results, names, store)
    return outcome(results)


def _dry_run(arguments: Arguments, planned: Plan, store: Store) -> None:
    """Print every run with its state and about how long it takes."""
    from cl_nvrm.sweep import estimate

    stored = {r.id: r for r in store.results() if store.complete(r.id, arguments.keep_weights)}
    # What tuning will choose, and whether it is stored, is not known yet.
    to_do = [spec for spec in planned.specs if arguments.fresh or arguments.tune or spec.id not in stored]
    workers = workers_of(arguments, planned.device)
    jobs, threads = workers.for_runs(len(to_do))
    about = estimate.seconds(to_do, list(stored.values()), arguments.data_dir, planned.device, threads)
    for spec in planned.specs:
        state = f"to do, {estimate.duration(about[spec.id])}" if spec.id in about else "stored"
        if arguments.tune:
            state = f"to be tuned, {estimate.duration(about.get(spec.id, math.nan))}"
        print(f"{spec.id}  {state}  seed {spec.seed}  lr {spec.lr:g}  {spec.strategy}")
    at_once = f"{jobs} at once" if jobs > 0 else "on the cluster, one at a time"
    total = estimate.duration(sum(about.values()) / max(1, jobs))
    tasks = min(arguments.tune_tasks, planned.tasks)
    tuning = (
        f"; before that, {counted(arguments.tune, 'trial')} on {counted(tasks, 'task')} a strategy and search "
        f"({arguments.tune_searches}), each of {counted(arguments.tune_seeds, 'run')}, which are not counted here"
        if arguments.tune
        else ""
    )
    print(f"{len(to_do)} of {counted(len(planned.specs), 'run')} to do, {total} with {at_once}{tuning}")
    if peak := estimate.peak_bytes(to_do, list(stored.values())):
        longest = estimate.duration(max(about.values()))
        print(f"a worker process takes about {peak / 1e9:.1f} GB, and {longest} for the longest run")


def _show(arguments: Arguments, planned: Plan, results: list[RunResult], names: CellNames, store: Store) -> None:
    from cl_nvrm.analysis.comparisons import Contrast, cells, comparisons
    from cl_nvrm.report import terminal
    from cl_nvrm.report.save import draw_beside_others

    groups = cells(results, names)
    figures = draw_beside_others(groups, store.folder / "figures") if arguments.plots else []
    primary = tuple(map(Contrast.parse, arguments.primary))
    compared = comparisons(groups, () if planned.choice else primary)
    at_equal = []
    if planned.choice:
        from cl_nvrm.analysis.equal_plasticity import on_fresh_runs

        try:
            at_equal = on_fresh_runs(planned.choice, groups, [(each.first, each.second) for each in primary])
        except UserError as problem:  # runs that failed must not take away what there is
            note(f"nothing is compared at equal plasticity: {problem}")
    if arguments.format == "json":
        print(json.dumps(terminal.as_json(results, compared, at_equal, figures, store.folder)))
    else:
        console = Console()
        console = console if console.is_terminal else Console(width=140)
        terminal.write(console, groups, compared, at_equal, arguments.margin, figures, store.folder)


def _list(kind: str, *, as_json: bool) -> None:
    for remark in folders.misnamed(kind):
        note(remark)
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
            print(f"    {key} = {grammar.write_value(default)}")


if __name__ == "__main__":
    leave(main())
