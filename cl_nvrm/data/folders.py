"""Class folders of images, ``{train,test}/<class>/*.png`` (or jpg, webp, …), in folders or in zip archives."""

import io
import zipfile
import zlib
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from cl_nvrm.data.images import RawImages
from cl_nvrm.data.listing import SPLITS, Entry, Listing, files, listing, present
from cl_nvrm.errors import MissingData

__all__ = ["files", "present", "read"]

LAYOUT = "write {train,test}/<class>/<image>, as folders or in zip archives"
WIDE = 257  # 65535 / 255: a 16-bit pixel of full brightness becomes an 8-bit one of full brightness


def read(folder: Path) -> RawImages:
    """Decode every image, in the order of split, class and name; class numbers follow the sorted class names.

    Its notes say what was left out and what was converted. MissingData names the file that cannot be decoded, that has
    another size than the rest, or that is there twice (as when an archive lies beside what was unpacked from it), and
    the class that has no images for training or testing.
    """
    pixels: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    labels: dict[str, list[int]] = {split: [] for split in SPLITS}
    converted: Counter[str] = Counter()
    with listing(folder) as found:
        _check_classes(folder, found)
        classes = {name: number for number, name in enumerate(sorted(found.classes["train"]))}
        contents = sorted(
            ((entry, _content(entry)) for entry in found.entries),
            key=lambda pair: (pair[0].split, pair[0].label, pair[0].name),
        )
        left_out = _left_out(folder, found)
    for (one, content), (other, same) in pairwise(contents):
        if (one.split, one.label, one.name, content) == (other.split, other.label, other.name, same):
            raise MissingData(f"{one.where} and {other.where} are the same image; remove all that is there twice")
    first: tuple[int, ...] | None = None
    for entry, content in contents:
        array = _pixels(content, entry.where, converted)
        first = first or array.shape[:2]
        if array.shape[:2] != first:
            raise MissingData(
                f"{entry.where} is {array.shape[:2]}, the images before it are {first}; make them all of one size"
            )
        pixels[entry.split].append(array)
        labels[entry.split].append(classes[entry.label])
    _unify(pixels, converted)
    notes = left_out + [f"{folder}: {what} ({count} images)" for what, count in converted.items()]
    train_x, test_x = (_stacked(pixels[split]) for split in SPLITS)
    return RawImages(train_x, torch.tensor(labels["train"]), test_x, torch.tensor(labels["test"]), tuple(notes))


def _check_classes(folder: Path, found: Listing) -> None:
    for split in SPLITS:
        filled = {entry.label for entry in found.entries if entry.split == split}
        if not filled:
            there = "; ".join(_left_out(folder, found)) or f"{folder} has no images there"
            raise MissingData(f"{folder}: no images under {split}/<class>/; {LAYOUT} ({there})")
        for label in sorted(found.classes["train"] | found.classes["test"]):
            if label not in filled:
                raise MissingData(f"{folder}: class '{label}' has no images under {split}/; add some, or remove it")


def _left_out(folder: Path, found: Listing) -> list[str]:
    if not found.left_out:
        return []
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(found.left_out.items()))
    return [f"{folder}: files left out: {reasons}"]


def _content(entry: Entry) -> bytes:
    try:
        return entry.read()
    # RuntimeError: an archive with a password, or compressed in a way that Python cannot undo
    except (OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as problem:
        raise MissingData(f"{entry.where} cannot be read ({problem}); copy it again") from problem


def _pixels(content: bytes, where: str, converted: Counter[str]) -> np.ndarray:
    """The pixels of an encoded image, uint8, (height, width) if it is grey and (height, width, 3) if not."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            if getattr(image, "n_frames", 1) > 1:
                converted["of several frames, the first was taken"] += 1
            if image.mode == "F":
                raise MissingData(f"{where} has floating-point pixels; save it with 8 or 16 bits")
            if image.mode.startswith("I"):
                return _narrowed(np.asarray(image).astype(np.int64), where, converted)
            if image.has_transparency_data:
                return _opaque(image, converted)
            return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as problem:
        # SyntaxError: a broken PNG
        raise MissingData(f"{where} is not an image that can be read; replace or remove it") from problem


def _narrowed(wide: np.ndarray, where: str, converted: Counter[str]) -> np.ndarray:
    if wide.min() < 0 or wide.max() > 255 * WIDE:
        raise MissingData(f"{where} has pixels outside of 0 to 65535; save it with 8 or 16 bits")
    converted["16-bit greys were scaled to 8 bits"] += 1
    return np.asarray(np.rint(wide / WIDE).astype(np.uint8))


def _opaque(image: Image.Image, converted: Counter[str]) -> np.ndarray:
    """The pixels as they look on white, which is what most viewers show them on."""
    coloured = image.convert("RGBA")
    if np.asarray(coloured)[..., 3].min() < 255:
        converted["transparent parts were laid on white"] += 1
    opaque = Image.alpha_composite(Image.new("RGBA", image.size, "white"), coloured)
    return np.asarray(opaque.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB"))


def _unify(pixels: dict[str, list[np.ndarray]], converted: Counter[str]) -> None:
    """Give grey images three channels if there are coloured ones beside them."""
    if len({array.ndim for arrays in pixels.values() for array in arrays}) == 1:
        return
    for arrays in pixels.values():
        for place, array in enumerate(arrays):
            if array.ndim == 2:
                arrays[place] = np.stack([array] * 3, axis=-1)
                converted["grey images beside coloured ones were given three channels"] += 1


def _stacked(arrays: list[np.ndarray]) -> torch.Tensor:
    block = torch.from_numpy(np.stack(arrays))
    return (block[..., None] if block.ndim == 3 else block).permute(0, 3, 1, 2).contiguous()
