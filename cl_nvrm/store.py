"""Store: a folder with one JSON file a run, named by the run's id.

A file appears whole or not at all: it is written under another name, flushed to the disk, then renamed. Nothing is
ever unpickled.
"""

import os
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from cl_nvrm.errors import UserError
from cl_nvrm.spec import RunResult


class Store:
    """The finished runs in a folder, which is made when needed; UserError if it cannot be written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make the folder and see that files can be written there, before hours of work depend on it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=self.folder, prefix=".probe-"):
                pass
        except OSError as problem:
            reason = problem.strerror or str(problem)
            raise UserError(f"Cannot write to {self.folder} ({reason}); name another folder with --out") from problem

    def save(self, result: RunResult) -> Path:
        """Write a result, replacing an earlier one of the same id, and return its file; UserError if it cannot."""
        path = self._path(result.id)
        try:
            self._write(path, result.to_json())
        except OSError as problem:
            reason = problem.strerror or str(problem)
            raise UserError(f"Cannot write {path} ({reason}); the runs stored before are kept") from problem
        return path

    def get(self, run_id: str) -> RunResult | None:
        """Return the result of that id; None if there is none, or only a damaged file."""
        try:
            return RunResult.from_json(self._path(run_id).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def load(self) -> tuple[list[RunResult], dict[Path, str]]:
        """Return all results, and the files that are none with the reason."""
        results, damaged = [], {}
        for path in sorted(self.folder.glob("*.json")):
            try:
                results.append(RunResult.from_json(path.read_text(encoding="utf-8")))
            except (OSError, ValueError) as problem:
                damaged[path] = str(problem)
        return results, damaged

    def _write(self, path: Path, text: str) -> None:
        with NamedTemporaryFile("w", dir=self.folder, prefix=".new-", delete=False, encoding="utf-8") as file:
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
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _path(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.json"
