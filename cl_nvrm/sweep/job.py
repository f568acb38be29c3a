"""Job: what a worker process does with a run: claim it, go on from its checkpoint, store its result.

A group of specs that differ in nothing but their seed is trained as one stack, where that is asked for.
"""

import os
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cl_nvrm.errors import Diverged, UserError
from cl_nvrm.spec import RunResult, RunSpec, text_digest
from cl_nvrm.sweep.claim import claim
from cl_nvrm.sweep.store import Store

Group = tuple[RunSpec, ...]
ALONE = threading.Lock()  # a run seeds its process's global generators: two threads of one worker would share them


@cache
def _end_with(parent: int) -> None:
    """End this process soon after its parent, which nobody else tells it of: it would wait for more work."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)  # what was under way goes on from its checkpoint

    threading.Thread(target=watch, daemon=True).start()


@dataclass(frozen=True)
class Job:
    """How to train a group: its device, torch threads, data, whether only ``stacked`` will do, and where to store it.

    ``fresh`` trains again what is stored, or begun.
    """

    store: Store
    device: str = "cpu"
    data_dir: Path | None = None
    threads: int | None = None
    stacked: bool = False
    fresh: bool = False
    keep_weights: bool = False
    progress: Callable[[float], None] | None = None
    asked_by: int = field(default_factory=os.getpid)

    def __call__(self, specs: Group, *, wait: bool) -> tuple[Group, list[RunResult] | None]:
        """Return the group and its results; None for them if another process is at one of them, unless ``wait``."""
        if os.getppid() == self.asked_by:
            _end_with(self.asked_by)
        if self.keep_weights and not self._sees_store:
            raise UserError(f"--keep-weights needs workers that see {self.store.folder}")
        if not self._sees_store:  # this machine does not see the store: whoever asked stores the results
            return specs, self._results(specs)
        with ExitStack() as claims:
            for spec in sorted(specs, key=lambda spec: spec.id):  # in one order, so that no two wait for each other
                if not claims.enter_context(claim(self.store.claim_path(spec.id), wait=wait)):
                    return specs, None
                self.store.tidy(spec.id, everything=self.fresh)
            stored = [] if self.fresh else [r for spec in specs if (r := self.store.find(spec.id, self.keep_weights))]
            known = {result.id for result in stored}
            results = stored + self._results(tuple(spec for spec in specs if spec.id not in known))
            for spec in specs:
                if self.store.get(spec.id) is not None:
                    self.store.tidy(spec.id, everything=True)
            return specs, results

    def _results(self, specs: Group) -> list[RunResult]:
        with ALONE:
            if len(specs) > 1:
                try:
                    return self._train(specs)
                except Exception as problem:
                    if self.stacked and not isinstance(problem, Diverged):
                        return [self._failure(spec, problem) for spec in specs]
                    # One trial must not take the others with it: each by itself, then.
            results = []
            for spec in specs:
                try:
                    results += self._train((spec,))
                except Exception as problem:
                    results.append(self._failure(spec, problem))
            return results

    def _train(self, specs: Group) -> list[RunResult]:
        # Imported here: the process that only hands out runs need not load Avalanche.
        from cl_nvrm.training.stack import run_stack
        from cl_nvrm.training.train import History, run_one

        def on_task(history: History, share: float) -> None:
            for trial, spec in enumerate(specs):
                row = history.accuracy[-1] if len(specs) == 1 else [entry[trial] for entry in history.accuracy[-1]]
                self._log(spec, "task", task=len(history.accuracy), accuracy=row, losses=history.losses[-1])
            if self.progress:
                self.progress(share)

        path = self._checkpoint(specs)
        kept = self.store.weights_path(specs[0].id) if self.keep_weights else None
        options: dict[str, Any] = {"data_dir": self.data_dir, "device": self.device, "threads": self.threads}
        options |= {"on_task": on_task, "checkpoint": path}
        for spec in specs:
            self._log(
                spec,
                "resume" if path and path.is_file() else "start",
                strategy=spec.strategy,
                seed=spec.seed,
                settings=asdict(spec),
            )
        try:
            if len(specs) > 1:
                results = run_stack(specs, **options)
            else:
                results = [run_one(specs[0], **options, keep_weights=kept)]
        except Exception:
            if path:
                path.unlink(missing_ok=True)  # the next attempt starts over, rather than at what led here
            raise
        for result in results:
            result.to_json()  # a plug-in whose diagnostics are no finite numbers fails here, not in the store
            if self._sees_store:
                with suppress(UserError):  # the one who asked will find it missing, store it, and say what is wrong
                    self.store.save(result)
            self._log(result.spec, result.status)
        return results

    @property
    def _sees_store(self) -> bool:
        return self.store.folder.is_dir()

    def _checkpoint(self, specs: Group) -> Path | None:
        if not self._sees_store:
            return None
        others = "".join(spec.id for spec in specs[1:])
        suffix = f"-{text_digest(others, 8)}" if others else ""
        return self.store.checkpoint_path(specs[0].id + suffix)

    def _log(self, spec: RunSpec, event: str, **values: Any) -> None:
        if self._sees_store:
            with suppress(OSError):  # the log is for looking on, not worth a run
                self.store.run_log(spec.id).write(event, **values)

    def _failure(self, spec: RunSpec, problem: Exception) -> RunResult:
        about = {"traceback": "".join(traceback.format_exception(problem))}
        error = f"{type(problem).__name__}: {problem}"
        self._log(spec, "failed", error=error)
        return RunResult(spec, "failed", error=error, provenance=about)
