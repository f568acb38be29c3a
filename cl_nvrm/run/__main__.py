"""``python -m cl_nvrm.run``: arguments to specs, specs through a sweep, results to tables and figures."""

import json
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from cl_nvrm.errors import counted, exit_code, leave
from cl_nvrm.run import api
from cl_nvrm.run.execute import GOES_ON, conduct, outcome, prepare, workers_of
from cl_nvrm.run.flags import Arguments, parse
from cl_nvrm.run.plan import Plan
from cl_nvrm.sweep.store import Store

if TYPE_CHECKING:
    from cl_nvrm.run.results import Results


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors a user can cause become one line on stderr."""
    words = sys.argv[1:] if argv is None else argv
    without = ", without --fresh," if "--fresh" in words else ""
    return exit_code(lambda: _run(parse(words)), goes_on=GOES_ON.format(without))


def _run(arguments: Arguments) -> int:
    if arguments.list is not None:
        _list(arguments.list, as_json=arguments.format == "json")
        return 0
    planned = prepare(arguments)
    if arguments.dry_run:
        _dry_run(arguments, planned, Store(arguments.out))
        return 0
    results = conduct(arguments, planned)
    if len(results) == len(set(planned.specs)) or arguments.format == "json":
        _show(arguments, results)
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


def _show(arguments: Arguments, results: "Results") -> None:
    from cl_nvrm.report import terminal
    from cl_nvrm.report.save import draw_beside_others

    groups, compared, at_equal = results.cells, results.paired(), results.at_equal_plasticity()
    figures = draw_beside_others(groups, results.folder / "figures") if arguments.plots else []
    if arguments.format == "json":
        print(json.dumps(terminal.as_json(results, compared, at_equal, figures, results.folder)))
    else:
        console = Console()
        console = console if console.is_terminal else Console(width=140)
        terminal.write(console, groups, compared, at_equal, arguments.margin, figures, results.folder)


def _list(kind: str, *, as_json: bool) -> None:
    entries = api.listing_of(kind)
    if as_json:
        plain = {
            name: {"summary": entry.summary, "parameters": {key: p.default for key, p in entry.parameters.items()}}
            for name, entry in entries.items()
        }
        print(json.dumps({kind: plain}))
    else:
        print(entries)


if __name__ == "__main__":
    leave(main())
