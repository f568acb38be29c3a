"""Alternating measurements: A B A B, so that a busy machine slows both; what is reported is their ratio."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Setting:
    """What to measure on: the data, how much of it, on which device, how often.

    ``quick`` measures the same things on a small part of the data, for a first impression within 90 seconds.
    """

    data: str = "auto"
    data_dir: Path | None = None
    device: str = "cpu"
    quick: bool = False

    def pick(self, full: int, quick: int) -> int:
        """Return the number that fits the setting."""
        return quick if self.quick else full

    def wait(self) -> None:
        """Wait until the device has done what it was asked for."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class Row:
    """One ratio: median and quartiles of n paired measurements, with the medians it is made of and the goal, if any.

    ``most`` and ``least`` bound the median; ``unit`` is that of the two medians.
    """

    subject: str
    what: str
    ratio: float
    low: float
    high: float
    n: int
    first: float
    second: float
    unit: str = "s"
    most: float | None = None
    least: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the median keeps within the goal; None without one."""
        if self.most is None and self.least is None:
            return None
        return (self.most is None or self.ratio <= self.most) and (self.least is None or self.ratio >= self.least)

    def plain(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "met": self.met}


Samples = dict[str, list[float]]


def alternate(cases: Mapping[str, Callable[[], Any]], rounds: int, setting: Setting, warm: int = 1) -> Samples:
    """Run all cases in turn, ``rounds`` times after ``warm`` unmeasured ones; return each one's seconds.

    A case that returns a float has measured itself.
    """
    samples: Samples = {name: [] for name in cases}
    for turn in range(warm + rounds):
        for name, case in cases.items():
            setting.wait()
            start = time.perf_counter()
            own = case()
            setting.wait()
            seconds = own if isinstance(own, float) else time.perf_counter() - start
            if turn >= warm:
                samples[name].append(seconds)
    return samples


def compare(subject: str, what: str, samples: Samples, first: str, second: str, **options: Any) -> Row:
    """Return the row of ``first`` / ``second``, paired by round."""
    a, b = samples[first], samples[second]
    ratios = [x / y for x, y in zip(a, b, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
    medians = (statistics.median(a), statistics.median(b))
    return Row(subject, what, statistics.median(ratios), low, high, len(ratios), *medians, **options)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
