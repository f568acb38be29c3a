"""Contents: the runs in a store's folder with all that belongs to each, found by listing every folder once."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from cl_nvrm.analysis.metrics import summary
from cl_nvrm.spec import RunResult
from cl_nvrm.spec.settings import Settings, settings
from cl_nvrm.sweep.claim import is_held
from cl_nvrm.sweep.store import Foreign, Store

FINISHED, UNDER_WAY = "finished", "under way"
STATUSES = {
    FINISHED: "trained to the end",
    "diverged": "its loss stopped being a number; what was measured before is kept",
    "failed": "an error stopped it; the same command tries it again",
    UNDER_WAY: "a command is at it",
    "stopped": "begun, and nobody is at it; the same command goes on",
    "damaged": "its file cannot be read",
    "foreign": "a file that is no run, or another one's",
    "orphaned": "files without a result, of a run that nobody began",
}
ID = "[0-9a-f]{16}"
# Folder of a store -> the patterns of what lies there, with its kind; the group is the run's id.
PLACES = {
    "": {r"([^.].*)\.json": "result", rf"({ID})\.failed\.txt": "traceback", rf"\.new-({ID})-.*": "begun"},
    "weights": {rf"({ID})\.safetensors": "weights", rf"({ID})\.new": "begun"},
    "checkpoints": {
        rf"({ID})(?:-[0-9a-f]{{8}})?\.safetensors": "checkpoint",
        rf"({ID})(?:-[0-9a-f]{{8}})?\.new": "begun",
    },
    "events": {rf"({ID})\.jsonl": "log"},
    "perturbed": {rf"({ID})-[0-9a-f]{{8}}\.json": "answers", rf"({ID})-[0-9a-f]{{8}}\.new": "begun"},
    "tensorboard": {rf"({ID})": "tensorboard"},
    "wandb": {rf".*run-.*-({ID})": "wandb"},
}


@dataclass(frozen=True)
class File:
    """A file that belongs to a run: what kind it is, where it lies, its size in bytes, and which file it was."""

    kind: str
    path: Path
    size: int
    stamp: tuple[int, int]


@dataclass(eq=False)
class StoredRun:
    """A run of a store, finished or not, with its files; what is in these is read when it is asked for."""

    store: Store
    id: str
    files: list[File] = field(default_factory=list)

    @cached_property
    def _read(self) -> tuple[RunResult | None, str, bool]:
        """The result, or why there is none, and whether that is another's."""
        if not self.has("result"):
            return None, "", False
        try:
            return self.store.read(self.id), "", False
        except OSError as problem:
            return None, problem.strerror or str(problem), False
        except ValueError as problem:
            return None, str(problem), isinstance(problem, Foreign) or not re.fullmatch(ID, self.id)

    @property
    def result(self) -> RunResult | None:
        """What the run measured; None while there is no file that can be read."""
        return self._read[0]

    @property
    def problem(self) -> str:
        """What is wrong with the file of its result; "" if nothing is."""
        return self._read[1]

    @property
    def path(self) -> Path:
        """Where the result lies, or would lie."""
        return self.store.folder / f"{self.id}.json"

    @property
    def size(self) -> int:
        """The bytes of all that belongs to the run."""
        return sum(file.size for file in self.files)

    def has(self, kind: str) -> bool:
        """Return whether a file of that kind is there."""
        return any(file.kind == kind for file in self.files)

    @cached_property
    def claimed(self) -> bool:
        """Whether a command was at the run when this was first asked."""
        return is_held(self.store.claim_path(self.id))

    @property
    def changed(self) -> bool:
        """Whether its result was written, or went, since the run was listed."""
        listed = next((file for file in self.files if file.kind == "result"), None)
        return (_stamp(self.path) if os.path.lexists(self.path) else None) != (listed.stamp if listed else None)

    @cached_property
    def last_event(self) -> dict[str, Any]:
        """The last line of the run's log; empty if it has none."""
        return self.store.run_log(self.id).last() if self.has("log") else {}

    @cached_property
    def status(self) -> str:
        """One of ``STATUSES``."""
        if self.result is not None:
            return FINISHED if self.result.status == "done" else self.result.status
        if self.has("result"):
            return "foreign" if self._read[2] else "damaged"
        if self.claimed:
            return UNDER_WAY
        event = self.last_event.get("event")
        if event == "failed" or (event is None and self.has("traceback")):
            return "failed"
        return "stopped" if event in ("start", "resume", "task") else "orphaned"

    @cached_property
    def when(self) -> datetime:
        """When its log was last written to, which copying does not change; else, when its newest file was. Local."""
        try:
            return datetime.fromisoformat(self.last_event["time"]).astimezone()
        except (KeyError, TypeError, ValueError, OverflowError):
            times = [file.path.lstat().st_mtime for file in self.files if os.path.lexists(file.path)]
            return datetime.fromtimestamp(max(times, default=0)).astimezone()

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The fields of its spec; of a run without a result, those that its log tells."""
        if self.result is not None:
            return asdict(self.result.spec)
        for event in reversed(self.store.run_log(self.id).read()):
            if event.get("event") in ("start", "resume"):
                told = event.get("settings")
                return told if isinstance(told, dict) else {k: event[k] for k in ("strategy", "seed") if k in event}
        return {}

    @cached_property
    def settings(self) -> Settings:
        """All settings by name, as ``spec.settings`` has them."""
        return settings(self.spec)

    @cached_property
    def measured(self) -> dict[str, float | str | bool]:
        """What the run came to, by name: metrics in percent where they are defined, seconds, device, commit, bytes."""
        told: dict[str, float | str | bool] = {"weights": self.has("weights"), "size": self.size}
        if self.result is not None:
            told["seconds"] = self.result.train_seconds + self.result.eval_seconds
            told |= {k: v for k in ("device", "commit") if isinstance(v := self.result.provenance.get(k), str)}
            found = summary(self.result).items() if self.result.status == "done" else ()
            told |= {name: 100 * one.value for name, one in found if one.value is not None}
        return told


def contents(store: Store) -> list[StoredRun]:
    """Return the runs of a store in the order of their ids; OSError if its folder cannot be listed."""
    runs: dict[str, StoredRun] = {}
    for folder, patterns in PLACES.items():
        place = store.folder / folder
        if not place.is_dir():
            continue
        compiled = [(re.compile(pattern), kind) for pattern, kind in patterns.items()]
        with os.scandir(place) as entries:
            for entry in entries:
                for pattern, kind in compiled:
                    if match := pattern.fullmatch(entry.name):
                        run = runs.setdefault(match[1], StoredRun(store, match[1]))
                        run.files += _files(kind, Path(entry.path))
                        break
    return [runs[run_id] for run_id in sorted(runs)]


def _files(kind: str, path: Path) -> Iterator[File]:
    """What is at a path, or below it."""
    inside = sorted(path.rglob("*")) if path.is_dir() and not path.is_symlink() else [path]
    for file in inside:
        with suppress(FileNotFoundError):  # gone since it was listed
            if not file.is_dir() or file.is_symlink():
                yield File(kind, file, file.lstat().st_size, _stamp(file))


def _stamp(path: Path) -> tuple[int, int]:
    about = path.lstat()
    return about.st_ino, about.st_mtime_ns
