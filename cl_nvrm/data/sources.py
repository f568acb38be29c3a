"""Where data sets lie, and what happens when they do not.

Under each root, in this order: torchvision's own layout (``MNIST/raw``, ``cifar-10-batches-py``), IDX files
(``mnist/*-ubyte[.gz]``), class folders or zip archives of them (``cifar10/{train,test}/<class>/*.png``). Roots: the
folder given, ``CL_NVRM_DATA``, the cache.
"""

import json
import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from functools import lru_cache, partial
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from urllib.error import URLError

import torch
from numpy.exceptions import VisibleDeprecationWarning
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from cl_nvrm.data import cifar, digits, folders, idx
from cl_nvrm.data.images import Images, RawImages
from cl_nvrm.errors import MissingData
from cl_nvrm.spec import canonical_json, text_digest

EMBEDDED = "digits"
DECODING = 2  # part of a kept copy's name; raise it when files are decoded in another way
DOWNLOAD_SECONDS = 5.0  # for each answer of a mirror
# name -> torchvision's class, in whose folder of the same name the files lie, or else in that of cifar.FOLDERS
_TORCHVISION = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}


def load(
    choice: str, preferred: str = "mnist", folder: Path | None = None, warn: Callable[[str], None] = lambda _: None
) -> Images:
    """Return a data set by name, from disk, else by download; ``auto`` is ``preferred``, else the embedded digits.

    ``warn`` hears one line when ``auto`` falls back, and what was left out or converted. Any other name is strict about
    what it means: MissingData says where it was looked for, why it could not be downloaded, or which file is damaged.
    ``digits`` is always there.
    """
    images = _load(preferred if choice == "auto" else _name(choice, folder), choice == "auto", folder, warn)
    for line in images.notes:
        warn(line)
    return images


def _load(name: str, may_fall_back: bool, folder: Path | None, warn: Callable[[str], None]) -> Images:
    if name != EMBEDDED and _find(name, folder) is None:
        problem = _download(name)
        if _find(name, folder) is None:  # another process may have fetched it meanwhile
            if may_fall_back:
                warn(f"{name} is not on disk and could not be downloaded ({problem}); using the embedded '{EMBEDDED}'")
                name = EMBEDDED
            else:
                looked = ", ".join(str(root) for root in roots(folder))
                raise MissingData(
                    f"No data set '{_short(name)}' under {looked}, and none could be downloaded ({problem}); put its "
                    f"files into a folder of that name there, name another folder with --data-dir, or write --data "
                    f"{EMBEDDED}"
                )
    return _cached_load(name, folder)


def _name(choice: str, folder: Path | None) -> str:
    """Return what a data set is called: a known name however it is written, or the name of a folder there is."""
    known = _normal(choice)
    if known in (EMBEDDED, *_TORCHVISION):
        return known
    for root in roots(folder):
        alike = sorted(path.name for path in _inside(root) if _normal(path.name) == known)
        if alike:
            return choice if choice in alike else alike[0]
    return known


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


def _inside(root: Path) -> list[Path]:
    try:
        return [path for path in root.iterdir() if path.is_dir()]
    except OSError:  # not there, or not to be read
        return []


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:40]}…"


def cache_folder() -> Path:
    """Return where downloads and decoded images are kept; made on first use."""
    named = os.environ.get("XDG_CACHE_HOME")
    try:
        above = Path(named) if named else Path.home() / ".cache"
    except RuntimeError:  # a user without a home
        above = Path(gettempdir())
    return above / "cl_nvrm" / "data"


def roots(folder: Path | None) -> list[Path]:
    """Return the folders a data set is looked for in, first to last."""
    given = [folder, Path(os.environ["CL_NVRM_DATA"]) if os.environ.get("CL_NVRM_DATA") else None, cache_folder()]
    return [root for root in given if root is not None]


@lru_cache(maxsize=2)
def _cached_load(name: str, folder: Path | None) -> Images:
    if name == EMBEDDED:
        return Images.standardised(name, _remembered(f"digits-{digits.VERSION}", digits.make))
    read = _find(name, folder)
    assert read is not None
    return Images.standardised(name, read())


def _find(name: str, folder: Path | None) -> Callable[[], RawImages] | None:
    kind = _TORCHVISION.get(name, name)
    for root in roots(folder):
        if name not in _TORCHVISION and not any(path.name == name for path in _inside(root)):
            continue
        own = root / cifar.FOLDERS.get(kind, kind)
        if kind in cifar.FOLDERS and own.is_dir():  # whatever is in it: a half-copied set is an error, not a miss
            return partial(_decoded, name, own, cifar.files, partial(cifar.read, kind))
        for place in (own / "raw", root / name):
            if idx.present(place):
                return partial(idx.read, place)
        if folders.present(root / name):
            return partial(_decoded, name, root / name, folders.files, folders.read)
    return None


def _decoded(
    name: str, folder: Path, files: Callable[[Path], list[Path]], read: Callable[[Path], RawImages]
) -> RawImages:
    """Return what ``read`` makes of a folder, or a kept copy if no file's name, size or time of change is another."""
    stats = [(p.relative_to(folder).as_posix(), p.stat() if p.exists() else p.lstat()) for p in sorted(files(folder))]
    listing = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    key = text_digest(canonical_json([DECODING, listing]))
    return _remembered(f"{name}-{key}", partial(read, folder))


def _download(name: str) -> str | None:
    """Fetch a data set through torchvision into the cache; return why not, in a few words, or None on success."""
    if name not in _TORCHVISION:
        return "no known source"
    import torchvision

    kind = _TORCHVISION[name]
    fetch, place = getattr(torchvision.datasets, kind), cifar.FOLDERS.get(kind, kind)
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        # Into a folder of its own first: half a data set must never lie where a whole one is looked for.
        with (
            TemporaryDirectory(dir=cache_folder()) as fresh,
            _socket_timeout(DOWNLOAD_SECONDS),
            redirect_stdout(sys.stderr),
            warnings.catch_warnings(action="ignore", category=VisibleDeprecationWarning),  # as in cifar.read
        ):
            fetch(fresh, download=True)  # checks every file against a known checksum
            (Path(fresh) / place).replace(cache_folder() / place)
    except (URLError, OSError, RuntimeError, EOFError, HTTPException) as problem:
        return ([line.strip() for line in str(problem).splitlines() if line.strip()] or [type(problem).__name__])[-1]
    return None


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _remembered(key: str, make: Callable[[], RawImages]) -> RawImages:
    """Return what ``make`` makes, from a checked copy in the cache if there is one."""
    path = cache_folder() / "decoded" / f"{key}.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            notes = json.loads((file.metadata() or {}).get("notes", "[]"))
        stored = load_file(path)
        sums = bytes(stored.pop("sha256").tolist()).decode()
        raw = RawImages(**stored, notes=tuple(map(str, notes)))
        if raw.sha256 == sums:
            return raw
    except (OSError, KeyError, TypeError, ValueError, SafetensorError):
        pass  # not there, or damaged: made anew below
    raw = make()
    with suppress(OSError):  # a cache that cannot be written costs seconds, not results
        _store(path, raw)
    return raw


def _store(path: Path, raw: RawImages) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {part: getattr(raw, part).contiguous() for part in idx.FILES}
    tensors["sha256"] = torch.tensor(list(raw.sha256.encode()), dtype=torch.uint8)
    with TemporaryDirectory(dir=path.parent) as fresh:
        save_file(tensors, Path(fresh) / path.name, metadata={"notes": json.dumps(raw.notes)})
        (Path(fresh) / path.name).replace(path)  # two processes that store the same thing do no harm
