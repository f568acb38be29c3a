"""Processes: workers on this machine, forked from a server that has imported once what all of them need.

The server is multiprocessing's ``forkserver``. It imports and does nothing else: no thread runs in it and no GPU has
been touched, so whatever it forks may do both. Workers live as long as this process wants them, which they learn from a
pipe: it closes when this process closes it, or ends in whatever way.
"""

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import cl_nvrm

T = TypeVar("T")

IMPORTED = (
    "cl_nvrm.noise.kernels.draws",
    "cl_nvrm.noise.kernels.penalty",
    "cl_nvrm.optim",
    "cl_nvrm.sweep.job",
    "cl_nvrm.training.stack",
)
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def available() -> bool:
    """Return whether this system has a fork server; macOS has one, where its own libraries do not survive a fork."""
    return sys.platform == "linux"


@cache
def start() -> None:
    """Start the server, which imports while this process goes on; nothing, if it runs or there is none."""
    if not available():
        return
    from multiprocessing import forkserver

    forkserver.set_forkserver_preload(list(IMPORTED))
    # It has to find the very modules that this process would. A pool of threads, as OpenBLAS starts one when it is
    # imported, would not survive the fork.
    search = os.pathsep.join(os.path.abspath(place) for place in sys.path)  # noqa: PTH100
    with _environment({"PYTHONPATH": search, "PYTHONSAFEPATH": "1", **dict.fromkeys(ONE_THREAD, "1")}):
        forkserver.ensure_running()


@contextmanager
def workers(count: int) -> Iterator[Callable[[Iterable[Callable[[], T]]], Iterator[T]]]:
    """Yield a function that has ``count`` processes make calls, and yields what each returns as soon as it does.

    The processes are those of the last block, if nothing has changed. Whatever is raised in the block ends them, at
    once: what they were at goes on from its checkpoint. ``BrokenExecutor`` if one of them has died.
    """

    def compute(calls: Iterable[Callable[[], T]]) -> Iterator[T]:
        executor = _executor(count)
        with _without_main():  # the first calls start the processes
            futures = {executor.submit(call) for call in calls}
        for future in as_completed(futures):
            futures.discard(future)
            yield future.result()

    try:
        yield compute
    except BaseException:
        end()
        raise


def end() -> None:
    """End all workers."""
    while _POOLS:
        pool = _POOLS.pop()
        pool.alive.close()
        pool.executor.shutdown(cancel_futures=True)


class _Pool(NamedTuple):
    """Processes, the end of a pipe that they live by, what they have been told of the world, and whose they are."""

    executor: ProcessPoolExecutor
    alive: Any
    world: tuple[Any, ...]
    process: int


_POOLS: list[_Pool] = []  # one at most


def _executor(count: int) -> ProcessPoolExecutor:
    environment, places = dict(os.environ), list(cl_nvrm.__path__)
    world = (count, environment, places, list(sys.path), Path.cwd())
    if _POOLS and _POOLS[0].process != os.getpid():
        _POOLS.clear()  # those of the process that this one was forked from
    if not (_POOLS and _POOLS[0].world == world):
        end()
        start()
        context = get_context("forkserver")
        heard, alive = context.Pipe(duplex=False)
        executor = ProcessPoolExecutor(count, context, _begin, (heard, environment, places))
        _POOLS.append(_Pool(executor, alive, world, os.getpid()))
    return _POOLS[0].executor


def _begin(alive: Any, environment: dict[str, str], places: list[str]) -> None:
    """Make a worker what it would be, had this process forked it now."""
    os.environ.clear()
    os.environ.update(environment)
    cl_nvrm.__path__[:] = places
    gc.freeze()  # looked through for garbage, what is shared would be copied
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the one that asked decides

    def watch() -> None:
        with suppress(EOFError, OSError):
            alive.recv()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _without_main() -> Iterator[None]:
    """Spare workers the main module, which need not be guarded by ``if __name__ == "__main__"`` then."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
