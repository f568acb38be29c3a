"""Sweep: many specs through worker processes into a store, skipping what is there already."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from cl_nvrm.errors import UserError
from cl_nvrm.spec import RunResult, RunSpec
from cl_nvrm.spec.canonical import canonical_specs
from cl_nvrm.sweep import processes
from cl_nvrm.sweep.claim import claim
from cl_nvrm.sweep.job import Group, Job
from cl_nvrm.sweep.store import Store

CONNECT_SECONDS = 5
HERE = ("processes", "loky")  # backends of this machine
Call = Callable[[], tuple[Group, list[RunResult] | None]]


@dataclass(frozen=True)
class Workers:
    """Where runs are computed: ``jobs`` processes (0: as many as fit) on ``device``, with data from ``data_dir``.

    ``backend`` is ``processes`` for those of this machine that share what they import, or one of joblib's: ``loky`` for
    processes that import everything anew, as all do where there is no fork server, ``dask`` or ``ray`` for the cluster
    at address ``scheduler``, whose size then decides how many runs there are at once.

    ``stack`` trains the trials of a strategy as one run: ``on``, ``off``, or ``auto``, where that is faster (not on a
    CPU, which one trial keeps busy).
    """

    jobs: int = 0
    stack: str = "auto"
    backend: str = "processes"
    scheduler: str | None = None
    device: str = "cpu"
    data_dir: Path | None = None

    def for_runs(self, count: int) -> tuple[int, int | None]:
        """Return the number of processes and of torch threads in each for ``count`` runs.

        Processes beat threads at these sizes, so several runs take one thread each; a GPU is given one process. A
        single process takes two threads, or what OMP_NUM_THREADS says (None: torch has read it).
        """
        if self.backend not in HERE:
            return self.jobs or -1, 1
        from joblib import cpu_count

        most = self.jobs or (cpu_count() if self.device == "cpu" else 1)
        jobs = max(1, min(count, most))
        if jobs > 1:
            return jobs, 1
        return jobs, None if os.environ.get("OMP_NUM_THREADS") else min(2, cpu_count())

    def groups(self, specs: list[RunSpec]) -> list[tuple[RunSpec, ...]]:
        """Return which specs to train together: those that differ in nothing but their seed, or each alone."""
        if self.stack == "off" or (self.stack == "auto" and self.device == "cpu"):
            return [(spec,) for spec in specs]
        alike: dict[RunSpec, list[RunSpec]] = {}
        for spec in specs:
            alike.setdefault(replace(spec, seed=0), []).append(spec)
        return [tuple(group) for group in alike.values()]


def sweep(
    specs: Iterable[RunSpec],
    store: Store,
    workers: Workers,
    *,
    fresh: bool = False,
    keep_weights: bool = False,
    wait: bool = True,
    on_result: Callable[[RunResult], None] = lambda _: None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> list[RunResult]:
    """Return the results of all specs in order, computing those that are not in the store (all of them if ``fresh``).

    Each result is stored by the process that computed it, the moment it is there, and each run's state after each task
    until then; so a sweep that was killed goes on from its last tasks. Where a worker does not see the store's folder
    (another machine's disk), this process stores the result. A run that another sweep is at, on the same store, is left
    to the end and then taken from the store, or, if ``wait`` is false and it is still under way, left out. A run that
    diverges or fails does not stop the others; a failed one is not stored, so the next sweep tries it again. With
    ``keep_weights``, a run is not done without a file of its final weights. ``on_progress`` hears the share of the
    present run that is done, where one process does all. Specs are made canonical before anything else.
    """
    specs = canonical_specs(specs)
    store.clean()
    results = {} if fresh else {spec.id: found for spec in specs if (found := store.find(spec.id, keep_weights))}
    missing = list({spec.id: spec for spec in specs if spec.id not in results}.values())
    groups = [(spec,) for spec in missing] if keep_weights else workers.groups(missing)  # a stack keeps none
    jobs, threads = workers.for_runs(len(groups))
    job = Job(
        Store(store.folder.resolve()),
        device=workers.device,
        data_dir=workers.data_dir,
        threads=threads,
        stacked=workers.stack == "on",
        fresh=fresh,
        keep_weights=keep_weights,
        progress=on_progress if jobs == 1 and workers.backend in HERE else None,
    )
    with _workers_alive(), _engine(workers, jobs) as compute:
        patient = False
        while groups:
            elsewhere = []
            for group, found in compute([partial(job, group, wait=patient) for group in groups]):
                if found is None:
                    elsewhere.append(group)
                for result in found or ():
                    if result.status != "failed" and store.get(result.id) != result:
                        with claim(store.claim_path(result.id), wait=True):
                            store.save(result)
                    results[result.id] = result
                    on_result(result)
            if not wait and len(elsewhere) == len(groups):
                break
            groups, patient = elsewhere, wait
    store.clean()
    for spec in (spec for group in groups for spec in group):
        if ended := store.find(spec.id, keep_weights):  # just now, by another command
            results[spec.id] = ended
            on_result(ended)
    return [results[spec.id] for spec in specs if spec.id in results]


@contextmanager
def _engine(workers: Workers, jobs: int) -> Iterator[Callable[[list[Call]], Iterable[Any]]]:
    """Yield a function that makes calls and yields what they return, where and by how many processes is asked for."""
    backend, address = workers.backend, workers.scheduler
    if backend in HERE and jobs == 1:
        yield lambda calls: (call() for call in calls)
        return
    if backend == "processes" and processes.available():
        with processes.workers(jobs) as compute:
            yield compute
        return
    import joblib

    def by_joblib(calls: list[Call]) -> Iterable[Any]:
        # Ray's joblib backend hands results over at the end only; its workers store them as they come, like all others.
        results_as = "list" if backend == "ray" else "generator_unordered"
        results: Iterable[Any] = joblib.Parallel(n_jobs=jobs, return_as=results_as)(map(joblib.delayed(_made), calls))
        return results

    if backend in HERE:
        yield by_joblib
        return
    with ExitStack() as closing:
        try:
            if backend == "ray":
                import ray
                from ray.util.joblib import register_ray

                ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
                register_ray()
            else:
                from distributed import Client

                if address:
                    closing.enter_context(Client(address, timeout=CONNECT_SECONDS, set_as_default=True))
                else:
                    Client.current()
        except ImportError as problem:
            raise UserError(f"--backend {backend} needs more: pip install 'cl_nvrm[{backend}]'") from problem
        except (OSError, ValueError) as problem:
            raise UserError(
                f"--backend {backend}: no scheduler at {address}"
                if address
                else f"--backend {backend} needs --scheduler"
            ) from problem
        closing.enter_context(joblib.parallel_config(backend=backend))
        yield by_joblib


def _made(call: Call) -> tuple[Group, list[RunResult] | None]:
    return call()


@contextmanager
def _workers_alive() -> Iterator[None]:
    try:
        yield
    except BrokenExecutor as problem:
        raise UserError(
            "a worker process was killed, perhaps for want of memory; finished runs are stored. Give the same command "
            "again with fewer --jobs"
        ) from problem
