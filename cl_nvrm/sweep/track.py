"""Track: a run's events handed on to TensorBoard, Weights & Biases or a CSV file, as it finishes.

Each reads the same log (``events``), so that switching a tracker on changes nothing in a run.
"""

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Protocol

from cl_nvrm.errors import UserError
from cl_nvrm.spec import RunResult
from cl_nvrm.sweep.claim import claim
from cl_nvrm.training.replacing import replacing

Events = Iterable[dict[str, Any]]
Scalar = tuple[str, int, float, float]  # name, step, value, seconds since 1970


class Tracker(Protocol):
    """Whatever a finished run is told to."""

    def knows(self, run_id: str) -> bool:
        """Return whether the run was handed on before, as far as can be seen here."""

    def write(self, result: RunResult, name: str, events: Events) -> None:
        """Hand on a run, called ``name``, with its events."""


def tracker(kind: str, folder: Path) -> Tracker:
    """Return a tracker that writes under ``folder``; UserError if its package is not installed."""
    kinds: dict[str, type[TensorBoard] | type[WandB] | type[Csv]]
    kinds = {"tensorboard": TensorBoard, "wandb": WandB, "csv": Csv}
    try:
        return kinds[kind](folder)
    except ImportError as problem:
        raise UserError(f"--track {kind} needs more: pip install 'cl_nvrm[{kind}]'") from problem


class Tracking:
    """Several trackers under ``folder``; one that fails is reported to ``warn``, once, and left out from then on."""

    def __init__(self, kinds: Iterable[str], folder: Path, warn: Callable[[str], None]) -> None:
        self.trackers = {kind: tracker(kind, folder) for kind in kinds}
        self.warn = warn
        self.told: set[str] = set()

    def tell(self, result: RunResult, name: str, events: Events, *, again: bool = True) -> None:
        """Hand on a finished run; not ``again``: only to those that do not know it."""
        if result.status != "done" or (result.id in self.told and not again):
            return
        self.told.add(result.id)
        for kind, one in list(self.trackers.items()):
            try:
                if again or not one.knows(result.id):
                    one.write(result, name, events)
            except Exception as problem:  # whatever somebody else's service does: the runs go on
                self.warn(f"--track {kind}: {type(problem).__name__}: {problem}; no more of it in this command")
                del self.trackers[kind]


def scalars(result: RunResult, events: Events) -> Iterator[Scalar]:
    """Yield what can be plotted: accuracy on each task, mean accuracy on learned tasks, losses; steps count tasks.

    Values are those of the result, times those of the log: of the last attempt, where a run was stopped on the way.
    """
    times = {e["task"]: datetime.fromisoformat(e["time"]).timestamp() for e in events if e.get("event") == "task"}
    for step, (row, losses) in enumerate(zip(result.accuracy, result.losses, strict=False), 1):
        when = times.get(step, 0.0)
        for k, value in enumerate(row, 1):
            yield f"accuracy/task {k}", step, value, when
        yield "accuracy/mean of learned tasks", step, sum(row[:step]) / step, when
        for epoch, loss in enumerate(losses, 1):
            yield f"loss/epoch {epoch}", step, loss, when


class TensorBoard:
    """A folder a run, for ``tensorboard --logdir``."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self.writer = folder / "tensorboard", SummaryWriter

    def knows(self, run_id: str) -> bool:
        """Return whether the run has a folder."""
        return (self.folder / run_id).is_dir()

    def write(self, result: RunResult, name: str, events: Events) -> None:
        """Write the run's scalars, and its name as text; what was written of an earlier training of it goes."""
        for earlier in (self.folder / result.id).glob("events.out.tfevents.*"):
            earlier.unlink()
        with self.writer(str(self.folder / result.id)) as writer:
            writer.add_text("run", f"{name}, seed {result.spec.seed}")
            for tag, step, value, when in scalars(result, events):
                writer.add_scalar(tag, value, step, walltime=when)


class WandB:
    """A run of project ``cl_nvrm``, under the run's own id; log in, or set WANDB_MODE=offline, as usual."""

    def __init__(self, folder: Path) -> None:
        import wandb

        if os.environ.get("WANDB_MODE", "online") == "online" and not wandb.api.api_key:
            raise UserError("--track wandb: not logged in; run 'wandb login', or set WANDB_MODE=offline")
        self.folder, self.wandb = folder, wandb

    def knows(self, run_id: str) -> bool:
        """Return whether the run left a folder here."""
        return any((self.folder / "wandb").glob(f"*run-*-{run_id}"))

    def write(self, result: RunResult, name: str, events: Events) -> None:
        """Write the run's settings and scalars, in place of those of an earlier training of it."""
        run = self.wandb.init(
            project="cl_nvrm", id=result.id, name=f"{name}, seed {result.spec.seed}", group=name, dir=str(self.folder),
            config=asdict(result.spec), reinit="finish_previous",
        )  # fmt: skip
        for step, of_step in groupby(scalars(result, events), key=itemgetter(1)):
            run.log({tag: value for tag, _, value, _ in of_step}, step=step)
        run.finish()


class Csv:
    """One file ``events.csv`` for all runs; a run that is told again replaces its rows."""

    HEADER = ("run", "strategy", "seed", "name", "task", "value", "time")

    def __init__(self, folder: Path) -> None:
        self.file = folder / "events.csv"

    def knows(self, run_id: str) -> bool:
        """Return whether the run has rows."""
        return any(row[0] == run_id for row in self._rows())

    def write(self, result: RunResult, name: str, events: Events) -> None:
        """Write the run's scalars as rows."""
        about = (result.id, name, result.spec.seed)
        self.replace(
            {result.id}, [(*about, tag, step, value, when) for tag, step, value, when in scalars(result, events)]
        )

    def rows(self, run_ids: Iterable[str]) -> list[list[str]]:
        """Return the rows of some runs."""
        wanted = set(run_ids)
        return [row for row in self._rows() if row[0] in wanted]

    def replace(self, run_ids: set[str], rows: Sequence[Sequence[object]]) -> None:
        """Put rows in the place of all that some runs have; a file is not made for none."""
        if not rows and not self.rows(run_ids):
            return
        with claim(self.file.with_suffix(".claim"), wait=True):
            kept = [row for row in self._rows() if row[0] not in run_ids]
            with replacing(self.file) as new, new.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([self.HEADER, *kept, *rows])

    def _rows(self) -> list[list[str]]:
        if not self.file.is_file():
            return []
        with self.file.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.reader(file) if row and row[0] != "run"]
