"""Images: one data set as tensors, ready for a model, with a fingerprint of what it was made from."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

# Mean and standard deviation of the training pixels on the scale 0 to 1, where the field has agreed on rounded ones.
_AGREED = {"mnist": ((0.1307,), (0.3081,))}


@dataclass(frozen=True)
class RawImages:
    """Images (n, channels, height, width) and labels (n,), uint8 and int64, for training and for testing."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor

    @cached_property
    def sha256(self) -> str:
        """Sixteen hexadecimal digits over every pixel and label."""
        digest = hashlib.sha256()
        for tensor in (self.train_x, self.train_y, self.test_x, self.test_y):
            digest.update(repr(tuple(tensor.shape)).encode())
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Images:
    """A data set: float32 images (n, channels, height, width), standardised by the training ones; labels (n,)."""

    name: str
    sha256: str
    classes: int
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor

    @classmethod
    def standardised(cls, name: str, raw: RawImages) -> "Images":
        """Turn raw pixels into model inputs, with the same numbers as torchvision's ToTensor and Normalize."""
        if name in _AGREED:
            mean, std = (torch.tensor(values) for values in _AGREED[name])
        else:
            pixels = raw.train_x.transpose(0, 1).flatten(1).double() / 255
            mean, std = pixels.mean(1).float(), pixels.std(1).clamp(min=1e-6).float()

        def scaled(x: Tensor) -> Tensor:
            return (x.float().div_(255) - mean.view(1, -1, 1, 1)).div_(std.view(1, -1, 1, 1))

        classes = int(max(raw.train_y.max(), raw.test_y.max())) + 1
        return cls(name, raw.sha256, classes, scaled(raw.train_x), raw.train_y, scaled(raw.test_x), raw.test_y)

    @property
    def values(self) -> int:
        """Numbers in one image."""
        return self.train_x[0].numel()

    def to(self, device: torch.device | str) -> "Images":
        """Return the same data set on a device."""
        moved = {f: getattr(self, f).to(device) for f in ("train_x", "train_y", "test_x", "test_y")}
        return replace(self, **moved)
