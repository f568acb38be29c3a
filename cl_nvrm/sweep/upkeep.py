"""Upkeep: remove runs from a store, or move them to another, with all that belongs to them and nothing else."""

import filecmp
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from cl_nvrm.errors import UserError
from cl_nvrm.sweep.claim import claim
from cl_nvrm.sweep.contents import StoredRun
from cl_nvrm.sweep.store import Store
from cl_nvrm.sweep.track import Csv


def delete(runs: Sequence[StoredRun]) -> list[StoredRun]:
    """Remove runs and return those that are left: a command is at them, or has stored a result since they were listed.

    The result goes last, so that what is left of a run after a crash is listed and can be removed.
    """
    left = []
    for run in runs:
        with _claimed(run, run.store) as mine:
            if not mine:
                left.append(run)
                continue
            _forget(run)
    _without_rows([run for run in runs if run not in left])
    return left


def conflicts(runs: Sequence[StoredRun], to: Store) -> list[Path]:
    """Return the files at the destination that hold something else than would be moved there."""
    pairs = [pair for run in runs for pair in _pairs(run, to)]
    return [new for old, new in pairs if os.path.lexists(new) and not _same(old, new)]


def move(runs: Sequence[StoredRun], to: Store) -> list[StoredRun]:
    """Move runs to another store and return those that are left, as ``delete`` does.

    Nothing is written over: UserError, before anything is moved, if a file is there already and holds something else. A
    run is whole in one of the two places at any time; after a crash the same call goes on.
    """
    if any(run.store.folder.resolve() == to.folder.resolve() for run in runs):
        raise UserError(f"{to.folder} is where they are; name another folder")
    if (ids := [run.id for run in runs]) and len(set(ids)) < len(ids):
        twice = next(run_id for run_id in ids if ids.count(run_id) > 1)
        raise UserError(f"run {twice} is in several of the folders; move them one after the other")
    if there := conflicts(runs, to):
        raise UserError(f"{there[0]} is there already and is not the same; nothing is moved")
    to.prepare()
    left = []
    for run in runs:
        with _claimed(run, run.store, to) as mine:
            if not mine:
                left.append(run)
                continue
            for old, new in _pairs(run, to):
                _put(old, new)
            _forget(run)
    moved = [run for run in runs if run not in left]
    for store in {run.store.folder: run.store for run in moved}.values():
        rows = Csv(store.folder).rows([run.id for run in moved if run.store is store])
        if rows:
            Csv(to.folder).replace({row[0] for row in rows}, rows)
    _without_rows(moved)
    return left


@contextmanager
def _claimed(run: StoredRun, *stores: Store) -> Iterator[bool]:
    """Hold a run's claim in some stores, if nobody does and its result is the one that was listed."""
    if len(stores) == 2:
        first, second = stores
        with claim(first.claim_path(run.id), wait=False) as one, claim(second.claim_path(run.id), wait=False) as other:
            yield one and other and not run.changed
    else:
        with claim(stores[0].claim_path(run.id), wait=False) as mine:
            yield mine and not run.changed


def _pairs(run: StoredRun, to: Store) -> list[tuple[Path, Path]]:
    """Each file, and where it goes; the result last, which makes a run count."""
    files = sorted(run.files, key=lambda file: file.kind == "result")
    return [(file.path, to.folder / file.path.relative_to(run.store.folder)) for file in files]


def _same(old: Path, new: Path) -> bool:
    return old.is_file() and new.is_file() and filecmp.cmp(old, new, shallow=False)


def _put(old: Path, new: Path) -> None:
    """Make a file appear whole in another place: by a link, which takes no room, or else by a copy."""
    if os.path.lexists(new) or not os.path.lexists(old):  # from a call before
        return
    new.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(old, new, follow_symlinks=False)
    except OSError:
        beside = new.with_name(f".new-{new.name}")
        shutil.copy2(old, beside, follow_symlinks=False)
        beside.replace(new)


def _forget(run: StoredRun) -> None:
    """Remove a run's files, the result last, and folders that are empty then."""
    for file in sorted(run.files, key=lambda file: file.kind == "result"):
        file.path.unlink(missing_ok=True)
        for folder in file.path.relative_to(run.store.folder).parents:
            if folder.parts and folder.parts[0] != "checkpoints":  # where the claim is, which takes care of it
                with suppress(OSError):  # not empty
                    (run.store.folder / folder).rmdir()


def _without_rows(runs: Sequence[StoredRun]) -> None:
    for store in {run.store.folder: run.store for run in runs}.values():
        Csv(store.folder).replace({run.id for run in runs if run.store.folder == store.folder}, [])
