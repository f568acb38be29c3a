"""CIFAR-10 and CIFAR-100 as torchvision keeps them, read by torchvision, which checks every file's sum beforehand."""

import warnings
from pathlib import Path
from typing import Any

import torch
from numpy.exceptions import VisibleDeprecationWarning
from torch import Tensor

from cl_nvrm.data.images import RawImages
from cl_nvrm.errors import MissingData

# torchvision's class -> its folder; written out, since importing torchvision takes longer than reading a kept copy
FOLDERS = {"CIFAR10": "cifar-10-batches-py", "CIFAR100": "cifar-100-python"}


def files(folder: Path) -> list[Path]:
    """List the files that the images come from."""
    return [path for path in folder.glob("[!.]*") if path.is_file()]


def read(kind: str, folder: Path) -> RawImages:
    """Read the folder of a torchvision class; order and labels are CIFAR's own, of CIFAR-100 the hundred fine ones.

    MissingData names the first file that is missing, damaged or foreign.
    """
    import torchvision

    opener = getattr(torchvision.datasets, kind)
    try:
        # numpy 2.4.0 to 2.4.4 complain of how old these arrays are, which a reader cannot change
        with warnings.catch_warnings(action="ignore", category=VisibleDeprecationWarning):
            train, test = (opener(folder.parent, train=training) for training in (True, False))
    except Exception as problem:  # a refusal, or whatever else stands between torchvision and the files
        fault = _fault(opener, folder) or f"{folder} cannot be read ({type(problem).__name__}: {problem})"
        raise MissingData(f"{fault}; copy or download the set again, or remove {folder}") from problem
    return RawImages(*_tensors(train), *_tensors(test))


def _tensors(split: Any) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(split.targets)


def _fault(opener: Any, folder: Path) -> str | None:
    """Say which file torchvision refuses, if it is one."""
    from torchvision.datasets.utils import check_integrity

    for name, checksum in [*opener.train_list, *opener.test_list, (opener.meta["filename"], opener.meta["md5"])]:
        path = folder / name
        try:
            if not path.is_file():
                return f"{path} is missing"
            if not check_integrity(path, checksum):
                return f"{path} is damaged, or not the original (its checksum differs)"
        except OSError as problem:
            return f"{path} cannot be read ({problem})"
    return None
