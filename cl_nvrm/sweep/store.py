"""Store: a folder with one JSON file a run, named by the run's id.

A file appears whole or not at all: it is written under another name, flushed to the disk, then renamed. Nothing is
ever unpickled.
"""

import os
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import TYPE_CHECKING

from cl_nvrm.errors import UserError, note
from cl_nvrm.spec import RunResult
from cl_nvrm.sweep.claim import claim
from cl_nvrm.sweep.run_log import RunLog

CHOICES = "frontier"  # the folder of these beside the runs

if TYPE_CHECKING:
    from cl_nvrm.analysis.choice import Choice


class Foreign(ValueError):
    """The file holds another run than its name says."""


class Store:
    """The finished runs in a folder, which is made when needed; UserError if it cannot be written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make the folder and see that files can be written there, before hours of work depend on it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self.folder):  # has no name where the system can do without
                pass
        except OSError as problem:
            reason = problem.strerror or str(problem)
            raise UserError(f"Cannot write to {self.folder} ({reason}); name another folder with --out") from problem

    def save(self, result: RunResult) -> Path:
        """Write a result, replacing an earlier one of the same id, and return its file; UserError if it cannot.

        A file of that name which is no result of the run is kept, with the suffix ``.damaged``.
        """
        path = self._path(result.id)
        try:
            if path.exists() and self.get(result.id) is None:  # perhaps another run's: nothing is lost
                path.replace(path.with_suffix(".damaged"))
                note(f"{path} was no result of this run and is now {path.with_suffix('.damaged').name}")
            self._write(path, result.to_json())
        except OSError as problem:
            reason = problem.strerror or str(problem)
            raise UserError(f"Cannot write {path} ({reason}); the runs stored before are kept") from problem
        (self.folder / f"{result.id}.failed.txt").unlink(missing_ok=True)  # of an earlier attempt
        return path

    def get(self, run_id: str) -> RunResult | None:
        """Return the result of that id; None if there is none, or only a damaged or foreign file."""
        try:
            return self.read(run_id)
        except (OSError, ValueError):
            return None

    def read(self, run_id: str) -> RunResult:
        """Return the result of that id; OSError if there is none, ValueError for a damaged file, Foreign another's."""
        return _read(self._path(run_id))

    def find(self, run_id: str, with_weights: bool = False) -> RunResult | None:
        """Return the result of that id, if what is wanted of it is there."""
        return self.get(run_id) if self.complete(run_id, with_weights) else None

    def complete(self, run_id: str, with_weights: bool) -> bool:
        """Return whether the final weights of a run are there, if they are wanted."""
        return not with_weights or self.weights_path(run_id).is_file()

    def load(self) -> tuple[list[RunResult], dict[Path, str]]:
        """Return all results, and the files that are none with the reason, which is one line."""
        results, damaged = [], {}
        for path in sorted(self.folder.glob("*.json")):
            try:
                results.append(_read(path))
            except OSError as problem:
                damaged[path] = problem.strerror or str(problem)
            except ValueError as problem:
                damaged[path] = str(problem)
        return results, damaged

    def results(self) -> list[RunResult]:
        """Return all results, after a line on stderr for each file that is left out."""
        results, damaged = self.load()
        for path, reason in damaged.items():
            note(f"{path} is left out: {reason}")
        return results

    def choices(self) -> "list[Choice]":
        """Return the choices of settings whose runs are here, after a line on stderr for a damaged one."""
        from cl_nvrm.analysis.choice import Choice  # which needs scipy, unlike all else here

        found = []
        for path in sorted((self.folder / CHOICES).glob("*.json")):
            try:
                found.append(Choice.from_json(path.read_text(encoding="utf-8")))
            except (OSError, ValueError) as problem:
                note(f"{path} is left out: {problem}")
        return found

    def check(self, choice: "Choice") -> Path:
        """Return the file of a choice of settings; UserError if another one was made for the same runs."""
        path = self.folder / CHOICES / f"{choice.spec.id}.json"
        if path.exists() and path.read_bytes() != choice.to_json().encode():
            raise UserError(
                f"{path} holds other settings or levels for these runs; name another --out, or remove that file"
            )
        return path

    def keep(self, choice: "Choice") -> None:
        """Write a choice of settings; UserError if another one was made for the same runs, which is kept."""
        path = self.check(choice)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write(path, choice.to_json())
        except OSError as problem:
            raise UserError(f"Cannot write {path} ({problem.strerror or problem})") from problem

    def claim_path(self, run_id: str) -> Path:
        """Return the file to hold a run's claim by."""
        return self.folder / "checkpoints" / f"{run_id}.claim"

    def checkpoint_path(self, run_id: str) -> Path:
        """Return the file of a run's checkpoint."""
        return self.folder / "checkpoints" / f"{run_id}.safetensors"

    def weights_path(self, run_id: str) -> Path:
        """Return the file of a run's final weights, where they are kept."""
        return self.folder / "weights" / f"{run_id}.safetensors"

    def run_log(self, run_id: str) -> RunLog:
        """Return a run's log."""
        return RunLog(self.folder / "events" / f"{run_id}.jsonl")

    def tidy(self, run_id: str, *, everything: bool = False) -> None:
        """Remove the beginnings of files of a run; ``everything``: its checkpoint, too. For its claim's holder only."""
        for rest in self.folder.glob(f".new-{run_id}-*"):
            rest.unlink(missing_ok=True)
        for rest in (self.folder / "checkpoints").glob(f"{run_id}*"):
            if rest.suffix == ".new" or (everything and rest.suffix == ".safetensors"):
                rest.unlink(missing_ok=True)

    def clean(self) -> None:
        """Remove what killed processes left of finished runs, and the beginnings of files of all that nobody is at."""
        begun = [path.name.removeprefix(".new-").partition("-")[0] for path in self.folder.glob(".new-*")]
        kept = [path.stem.partition("-")[0] for path in (self.folder / "checkpoints").glob("*")]
        for run_id in {*begun, *kept}:
            with claim(self.claim_path(run_id), wait=False) as mine:
                if mine:
                    self.tidy(run_id, everything=self.get(run_id) is not None)
        with suppress(OSError):  # not empty, or not there; killed just before, a holder leaves it empty
            (self.folder / "checkpoints").rmdir()

    def _write(self, path: Path, text: str) -> None:
        with NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".new-{path.stem}-", delete=False, encoding="utf-8"
        ) as file:
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                Path(file.name).unlink()
                raise
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
        with suppress(OSError):  # not every file system lets a folder be flushed
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _path(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.json"


def _read(path: Path) -> RunResult:
    """Return the result in a file; OSError if there is none, ValueError for a foreign or damaged one."""
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise ValueError("it is not a regular file")
    result = RunResult.from_json(path.read_text(encoding="utf-8"))
    if result.id != path.stem:
        raise Foreign(f"it holds run {result.id}, whose file is {result.id}.json")
    return result
