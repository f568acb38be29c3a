"""Class folders of images, ``{train,test}/<class>/*.png`` (or webp, jpg), in folders or in zip archives."""

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from cl_nvrm.data.images import RawImages
from cl_nvrm.errors import MissingData

SUFFIXES = {".png", ".webp", ".jpg", ".jpeg"}


def present(folder: Path) -> bool:
    """Say whether the folder holds zip archives, or a train or test folder."""
    return any(folder.glob("*.zip")) or (folder / "train").is_dir() or (folder / "test").is_dir()


def files(folder: Path) -> list[Path]:
    """List the files that the images come from."""
    return [p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES | {".zip"}]


def read(folder: Path) -> RawImages:
    """Decode every image, in the order of split, class and file name; class numbers follow the sorted class names.

    MissingData names the file that cannot be decoded, that has another size or number of channels than the rest, or
    that is there twice (as when an archive lies beside what was unpacked from it).
    """
    entries = sorted(_entries(folder), key=lambda entry: entry[:3])
    for one, other in pairwise(entries):
        if one[:3] == other[:3] and one[4] == other[4]:
            raise MissingData(f"{one[3]} and {other[3]} are the same image; remove all that is there twice")
    classes = {name: number for number, name in enumerate(sorted({entry[1] for entry in entries}))}
    pixels: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    labels: dict[str, list[int]] = {"train": [], "test": []}
    first: tuple[int, ...] | None = None
    for split, name, _, where, content in entries:
        try:
            with Image.open(io.BytesIO(content)) as image:
                array = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as problem:  # SyntaxError: a broken PNG
            raise MissingData(f"{where} is not an image that can be read; replace or remove it") from problem
        first = first or array.shape
        if array.shape != first:
            raise MissingData(f"{where} is {array.shape}, the images before it are {first}; make them all of one size")
        pixels[split].append(array)
        labels[split].append(classes[name])
    for split in pixels:
        if not pixels[split]:
            raise MissingData(f"{folder}: no images under {split}/<class>/; there must be both train/ and test/")

    def stacked(arrays: list[np.ndarray]) -> torch.Tensor:
        block = torch.from_numpy(np.stack(arrays))
        return (block[..., None] if block.ndim == 3 else block).permute(0, 3, 1, 2).contiguous()

    return RawImages(
        stacked(pixels["train"]),
        torch.tensor(labels["train"]),
        stacked(pixels["test"]),
        torch.tensor(labels["test"]),
    )


def _entries(folder: Path) -> Iterator[tuple[str, str, str, str, bytes]]:
    """Yield split, class, file name, place (for messages) and content of every image."""
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix.lower() in SUFFIXES:
            yield from _entry(PurePosixPath(path.relative_to(folder)), str(path), path.read_bytes)
    for archive in sorted(folder.glob("*.zip")):
        try:
            with zipfile.ZipFile(archive) as opened:
                for member in opened.namelist():
                    if PurePosixPath(member).suffix.lower() in SUFFIXES:
                        yield from _entry(PurePosixPath(member), f"{archive}:{member}", partial(opened.read, member))
        except (zipfile.BadZipFile, OSError) as problem:
            raise MissingData(f"{archive} cannot be read ({problem}); copy it again") from problem


def _entry(path: PurePosixPath, where: str, content: Callable[[], bytes]) -> Iterator[tuple[str, str, str, str, bytes]]:
    # The last three parts count, so an archive may have the set's own folder on top.
    if len(path.parts) >= 3 and path.parts[-3] in ("train", "test"):
        try:
            read = content()
        # RuntimeError: an archive with a password, or compressed in a way that Python cannot undo
        except (OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as problem:
            raise MissingData(f"{where} cannot be read ({problem}); copy it again") from problem
        yield path.parts[-3], path.parts[-2], path.name, where, read
