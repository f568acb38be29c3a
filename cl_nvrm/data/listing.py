"""What lies in a folder of class folders, ``{train,test}/<class>/…``, and in zip archives of such folders.

Hidden files and the rubbish of operating systems are passed over. Everything else that is left out is counted, so that
a person can be told.
"""

import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from cl_nvrm.errors import MissingData

SPLITS = ("train", "test")
SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}  # torchvision's
RUBBISH = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin"}


@dataclass(frozen=True)
class Entry:
    """One image: its split, class and name below the class, where it lies (for messages), and how to get its bytes."""

    split: str
    label: str
    name: str
    where: str
    read: Callable[[], bytes]


@dataclass
class Listing:
    """The images there are, the class folders by split, and how many files were left out, by reason."""

    entries: list[Entry] = field(default_factory=list)
    classes: dict[str, set[str]] = field(default_factory=lambda: {split: set() for split in SPLITS})
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Member:
    path: PurePosixPath
    where: str
    read: Callable[[], bytes] | None  # None: a folder


def present(folder: Path) -> bool:
    """Return whether the folder holds zip archives or images, in whatever layout: a half-copied set is no miss."""
    return any(path.suffix.lower() in SUFFIXES | {".zip"} for path in files(folder))


def files(folder: Path) -> list[Path]:
    """Return all files of a folder that are not passed over, sorted; links to folders are followed."""
    return sorted(Path(member.where) for member in _in_folder(folder) if member.read is not None)


@contextmanager
def listing(folder: Path) -> Iterator[Listing]:
    """List a folder and the archives in it, which are open for the length of a ``with`` block.

    MissingData for an archive that cannot be read or holds several sets.
    """
    found = Listing()
    inside = list(_in_folder(folder))
    archives = [m for m in inside if m.read is not None and len(m.path.parts) == 1 and m.path.suffix.lower() == ".zip"]
    _add(found, str(folder), [member for member in inside if member not in archives])
    with ExitStack() as opened:
        for archive in archives:
            try:
                content = opened.enter_context(zipfile.ZipFile(archive.where))
            except (zipfile.BadZipFile, OSError) as problem:
                raise MissingData(f"{archive.where} cannot be read ({problem}); copy it again") from problem
            _add(found, archive.where, [*_in_archive(content, archive.where)])
        yield found


def _add(found: Listing, where: str, members: Sequence[_Member]) -> None:
    """Add the members of one folder or archive, which may have the set's own folder on top."""
    below = 0
    if not any(member.path.parts[0] in SPLITS for member in members):
        tops = sorted({m.path.parts[0] for m in members if len(m.path.parts) > 1 and m.path.parts[1] in SPLITS})
        if len(tops) > 1:
            raise MissingData(f"{where} holds several sets ({', '.join(tops)}); leave one of them in it")
        below = len(tops)
        members = [m for m in members if not tops or m.path.parts[0] == tops[0] or _leave_out(found, m)]
    for member in members:
        parts = member.path.parts[below:]
        inside = bool(parts) and parts[0] in SPLITS
        if member.read is None:
            if inside and len(parts) == 2:
                found.classes[parts[0]].add(parts[1])
        elif not inside:
            _leave_out(found, member)
        elif member.path.suffix.lower() not in SUFFIXES:
            found.left_out[f"{member.path.suffix or 'without a suffix'}, not taken for images"] += 1
        elif len(parts) == 2:
            found.left_out[f"in {parts[0]}/ itself, in no class folder"] += 1
        else:
            found.classes[parts[0]].add(parts[1])
            found.entries.append(Entry(parts[0], parts[1], "/".join(parts[2:]), member.where, member.read))


def _leave_out(found: Listing, member: _Member) -> bool:
    if member.read is not None:
        found.left_out["outside of train/ and test/"] += 1
    return False


def _in_folder(folder: Path) -> Iterator[_Member]:
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place)
        folders[:] = sorted(name for name in folders if not _passed_over(name) and not _leads_up(here / name))
        for name in folders:
            path = here / name
            yield _Member(PurePosixPath(path.relative_to(folder).as_posix()), str(path), None)
        for name in names:
            path = here / name
            # A link to nowhere counts, so that reading it says what is missing; a pipe would wait for ever.
            if not _passed_over(name) and (path.is_file() or path.is_symlink()):
                yield _Member(PurePosixPath(path.relative_to(folder).as_posix()), str(path), path.read_bytes)


def _leads_up(path: Path) -> bool:
    """Whether a folder is a link to one that it lies in."""
    return path.is_symlink() and Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(path))


def _in_archive(opened: zipfile.ZipFile, archive: str) -> Iterator[_Member]:
    for name in opened.namelist():
        path = PurePosixPath(name)
        if path.parts and not any(map(_passed_over, path.parts)):
            read = None if name.endswith("/") else partial(opened.read, name)
            yield _Member(path, f"{archive}:{name}", read)


def _passed_over(name: str) -> bool:
    return name.startswith(".") or name.lower() in RUBBISH
