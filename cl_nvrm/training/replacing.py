"""Replacing a file whole: a reader sees the old content or the new, never half of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the file to write to, beside ``path`` and with the suffix ``.new``; it takes its place when all went well.

    The folder is made where it is missing, but not the one above it. What was begun is removed if anything raises; it
    stays after a kill, to be written over.
    """
    path.parent.mkdir(exist_ok=True)
    new = path.with_suffix(".new")
    try:
        yield new
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
