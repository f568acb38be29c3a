"""Claim: only one process at a time works on a run, whoever else writes to the same store.

A claim is an advisory lock on a file. The system lets go of it when its holder ends, kill -9 included, so a claim is
never stale; the file itself is removed with the claim.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cl_nvrm.errors import UserError

try:
    import fcntl
except ModuleNotFoundError:  # not on this system: runs are then not claimed
    fcntl = None  # type: ignore[assignment]

UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def claim(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the claim ``path`` and yield True; False if another process holds it and ``wait`` is not asked for."""
    if fcntl is None:
        yield True
        return
    descriptor = _lock(path, wait=wait)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            with suppress(OSError):  # others still have claims or checkpoints there
                path.parent.rmdir()


def is_held(path: Path) -> bool:
    """Return whether a process holds the claim ``path``; False where that cannot be seen."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)  # NFS locks only what may be written
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


def _lock(path: Path, *, wait: bool) -> int | None:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:  # the folder went with another claim, just now
            continue
        except PermissionError as problem:
            if not wait:
                return None  # somebody else's
            raise UserError(f"Cannot claim a run with {path} ({problem.strerror}); it is another user's") from problem
        except OSError as problem:
            raise UserError(f"Cannot write {path} ({problem.strerror}); the runs stored before are kept") from problem
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as problem:
            if problem.errno in UNSUPPORTED:
                return descriptor  # a file system without locks: as on a system without them
            os.close(descriptor)
            if isinstance(problem, BlockingIOError):
                return None
            raise
        # The holder before may have removed the file while this one waited: then the lock is on nothing.
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)
