"""MNIST's own file format, IDX, plain or gzipped."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cl_nvrm.data.images import RawImages
from cl_nvrm.errors import MissingData

FILES = {
    "train_x": "train-images-idx3-ubyte",
    "train_y": "train-labels-idx1-ubyte",
    "test_x": "t10k-images-idx3-ubyte",
    "test_y": "t10k-labels-idx1-ubyte",
}


def present(folder: Path) -> bool:
    """Say whether the folder holds any of the four files, so that a half-copied set is an error, not a miss."""
    return any(_path(folder, name) is not None for name in FILES.values())


def read(folder: Path) -> RawImages:
    """Read the four files of a folder; MissingData names the one that is missing, damaged or foreign."""
    arrays: dict[str, Tensor] = {}
    for part, name in FILES.items():
        path = _path(folder, name)
        if path is None:
            raise MissingData(f"{folder / name}[.gz] is missing beside the other files; copy it there")
        arrays[part] = _array(path, dimensions=3 if part.endswith("_x") else 1)
    for split in ("train", "test"):
        images, labels = arrays[f"{split}_x"], arrays[f"{split}_y"]
        if len(images) != len(labels) or len(images) == 0:
            raise MissingData(f"{folder}: {len(images)} {split} images but {len(labels)} labels; copy the set again")
    if arrays["train_x"].shape[1:] != arrays["test_x"].shape[1:]:
        sizes = [" x ".join(map(str, arrays[part].shape[1:])) for part in ("train_x", "test_x")]
        raise MissingData(f"{folder}: training images are {sizes[0]}, test images {sizes[1]}; copy the set again")
    learned, tested = (set(arrays[part].tolist()) for part in ("train_y", "test_y"))
    for split, missing in (("train", tested - learned), ("test", learned - tested)):
        if missing:
            raise MissingData(f"{folder}: class {min(missing)} has no {split} images; copy the set again")
    return RawImages(
        arrays["train_x"][:, None], arrays["train_y"].long(), arrays["test_x"][:, None], arrays["test_y"].long()
    )


def _path(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)


def _array(path: Path, dimensions: int) -> Tensor:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as problem:
        raise MissingData(f"{path} cannot be read ({problem}); copy it again") from problem
    header = 4 + 4 * dimensions
    # Two zero bytes, type 8 (unsigned byte), the number of dimensions, then each as a big-endian 32-bit number.
    if len(content) < header or content[:4] != bytes([0, 0, 8, dimensions]):
        raise MissingData(f"{path} is not an IDX file of {dimensions}-dimensional bytes; put the original there")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) - header != np.prod(shape, dtype=np.int64):
        raise MissingData(f"{path} is cut short or too long for its {' x '.join(map(str, shape))} bytes; copy it again")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())
