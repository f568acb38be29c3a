"""Images: one data set as tensors, ready for a model, with a fingerprint of what it was made from."""

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

# Mean and standard deviation of the training pixels on the scale 0 to 1, where the field has agreed on rounded ones.
# CIFAR-10's deviations are the widespread ones: means over the images of each image's own, hence smaller than 0.247.
_AGREED = {
    "mnist": ((0.1307,), (0.3081,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
}


@dataclass(frozen=True)
class RawImages:
    """Images (n, channels, height, width) and labels (n,), uint8 and int64, for training and for testing.

    ``notes`` say what was left out or converted on the way; the fingerprint is of pixels and labels alone.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    notes: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """Sixteen hexadecimal digits over every pixel and label."""
        digest = hashlib.sha256()
        for tensor in (self.train_x, self.train_y, self.test_x, self.test_y):
            digest.update(repr(tuple(tensor.shape)).encode())
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Images:
    """A data set: float32 images (n, channels, height, width), standardised by the training ones; labels (n,).

    ``black`` (channels or 1, 1, 1) is what a black pixel has become, and ``deviation``, of the same shape, what pixels
    in [0, 1] were divided by; 0 and 1, unless told, as of pixels nobody standardised.
    ``notes`` say what was left out or converted when it was read.
    """

    name: str
    sha256: str
    classes: int
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    black: Tensor = field(default_factory=lambda: torch.zeros(1, 1, 1))
    notes: tuple[str, ...] = ()
    deviation: Tensor = field(default_factory=lambda: torch.ones(1, 1, 1))

    @classmethod
    def standardised(cls, name: str, raw: RawImages) -> "Images":
        """Turn raw pixels into model inputs, with the same numbers as torchvision's ToTensor and Normalize."""
        if name in _AGREED and len(_AGREED[name][0]) == raw.train_x.shape[1]:
            mean, std = (torch.tensor(values) for values in _AGREED[name])
        else:
            mean, std = _moments(raw.train_x)
        mean, std = mean.view(-1, 1, 1), std.view(-1, 1, 1)

        def scaled(x: Tensor) -> Tensor:
            return x.float().div_(255).sub_(mean).div_(std)  # in place: a second copy would be another 600 MB of CIFAR

        classes = int(max(raw.train_y.max(), raw.test_y.max())) + 1
        train_x, test_x, black = (scaled(x) for x in (raw.train_x, raw.test_x, torch.zeros_like(mean)))
        return cls(name, raw.sha256, classes, train_x, raw.train_y, test_x, raw.test_y, black, raw.notes, std)

    @property
    def values(self) -> int:
        """Numbers in one image."""
        return self.train_x[0].numel()

    def coloured(self, size: int = 32) -> "Images":
        """Return the same data set with 3 channels and ``size`` x ``size`` pixels, for networks that want colour.

        A grey image is the same in all 3 channels, and a smaller one has a black frame, the right and lower sides of
        which are the wider ones if the frame is uneven. ValueError for larger images or another number of channels.
        """
        if all(x.shape[1:] == (3, size, size) for x in (self.train_x, self.test_x)):
            return self
        black = self.black.expand(3, 1, 1) if len(self.black) == 1 else self.black
        train_x, test_x = (_framed(x, black, size) for x in (self.train_x, self.test_x))
        return replace(self, train_x=train_x, test_x=test_x, black=black, deviation=self.deviation.expand(3, 1, 1))

    def framed(self, size: int) -> "Images":
        """Return the same data set in a black frame, ``size`` x ``size`` pixels; ValueError for larger images."""
        channels = len(self.train_x[0])
        train_x, test_x = (_framed(x, self.black, size, channels) for x in (self.train_x, self.test_x))
        return replace(self, train_x=train_x, test_x=test_x)

    def in_unit_range(self) -> "Images":
        """Return the same data set with pixels in [0, 1], k/255 for a pixel of k."""

        def unit(x: Tensor) -> Tensor:
            return ((x - self.black) * self.deviation).mul_(255).round_().div_(255)

        black, one = torch.zeros_like(self.black), torch.ones_like(self.deviation)
        return replace(self, train_x=unit(self.train_x), test_x=unit(self.test_x), black=black, deviation=one)

    def standardised_again(self) -> "Images":
        """Return the same data set with mean 0 and deviation 1 of the values in each channel of the training images."""
        dims = (0, 2, 3)
        deviation, mean = torch.std_mean(self.train_x, dims, keepdim=True)
        mean, deviation = mean[0], deviation[0].clamp(min=1e-6)
        train_x, test_x, black = ((x - mean) / deviation for x in (self.train_x, self.test_x, self.black))
        return replace(self, train_x=train_x, test_x=test_x, black=black, deviation=self.deviation * deviation)

    def to(self, device: torch.device | str) -> "Images":
        """Return the same data set on a device."""
        moved = {
            f: getattr(self, f).to(device) for f in ("train_x", "train_y", "test_x", "test_y", "black", "deviation")
        }
        return replace(self, **moved)


def _moments(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (channels,) of uint8 images, on the scale 0 to 1.

    They come from how often each of the 256 values occurs, which is exact and needs no float64 copy of the images.
    """
    counts = torch.stack([channel.flatten().bincount(minlength=256) for channel in pixels.unbind(1)]).double()
    values, total = torch.arange(256, dtype=torch.float64) / 255, counts.sum(1)
    mean = counts @ values / total
    variance = (counts * (values - mean[:, None]).square()).sum(1) / (total - 1)
    return mean.float(), variance.sqrt().clamp(min=1e-6).float()


def _framed(images: Tensor, black: Tensor, size: int, channels: int = 3) -> Tensor:
    count, present, height, width = images.shape
    if present not in (1, channels) or max(height, width) > size:
        allowed = "1" if channels == 1 else f"1 or {channels}"
        raise ValueError(
            f"images of {present} x {height} x {width} cannot become {channels} x {size} x {size}; "
            f"they must have {allowed} channels and at most {size} x {size} pixels"
        )
    framed = black.expand(count, channels, size, size).clone(memory_format=torch.contiguous_format)
    top, left = (size - height) // 2, (size - width) // 2
    framed[:, :, top : top + height, left : left + width] = images
    return framed
