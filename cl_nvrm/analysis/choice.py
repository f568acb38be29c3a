"""Choice: the settings of each family's frontier, found on some runs to be judged on others.

A frontier drawn and tested on the same runs flatters whoever has more settings to choose from. So the settings are
chosen on one set of runs (best of held-out images), and what they keep is measured on fresh seeds.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from cl_nvrm.analysis.comparisons import Cell, but_for_values
from cl_nvrm.analysis.frontier import Families, contrasts, mean_point, mixture_at, share_and_slope, with_parts
from cl_nvrm.spec import RunSpec, text_digest
from cl_nvrm.spec.runs import STRICT

Setting = tuple[str, float]  # canonical strategy, learning rate


@dataclass(frozen=True)
class Mixture:
    """Two settings between which a plasticity lies: ``share`` of the runs have the second one.

    ``slope`` is that of the line between them, by which a run's stability is taken to the plasticity asked for.
    """

    first: Setting
    second: Setting
    share: float
    slope: float

    __pydantic_config__ = STRICT


@dataclass(frozen=True)
class Choice:
    """A mixture of each family for each level of plasticity (None: out of reach), and what they were chosen on.

    ``spec`` holds what all runs to be judged have in common, ``contrasts`` the pairs of families to compare, ``seeds``
    the seeds that chose, ``runs`` a digest of the ids of these runs.
    """

    spec: RunSpec
    levels: tuple[float, ...]
    families: dict[str, tuple[Mixture | None, ...]]
    contrasts: tuple[tuple[str, str], ...]
    seeds: tuple[int, ...]
    runs: str

    __pydantic_config__ = STRICT

    @property
    def settings(self) -> list[Setting]:
        """All settings, each once, in order of families."""
        every = [mixture for of in self.families.values() for mixture in of if mixture]
        return list(dict.fromkeys(setting for mixture in every for setting in (mixture.first, mixture.second)))

    def to_json(self) -> str:
        """Return this choice as an indented JSON text."""
        return json.dumps(asdict(self), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Choice":
        """Read what ``to_json`` wrote; ValueError, of one line, for any other text."""
        try:
            read: Choice = _adapter().validate_json(text)
        except ValueError as problem:
            raise ValueError(f"no choice of settings ({str(problem).splitlines()[0]})") from problem
        named = {name for pair in read.contrasts for name in pair}
        lengths = {len(of) for of in read.families.values()}
        inside = all(0 <= level <= 1 for level in read.levels)
        if not (inside and read.settings and named <= read.families.keys() and lengths == {len(read.levels)}):
            raise ValueError("no choice of settings (its levels, families and contrasts do not fit)")
        return read


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Choice)


def choose(by_family: Families, spec: RunSpec, levels: Sequence[float]) -> Choice:
    """Choose each family's settings at some levels of plasticity, for runs that are otherwise like ``spec``."""
    results = [result for of in by_family.values() for cell in of for result in cell.results]
    return Choice(
        spec=but_for_values(spec),
        levels=tuple(levels),
        families={
            name: tuple(_mixture(mixture_at(of, level), level) for level in levels)
            for name, of in with_parts(by_family).items()
        },
        contrasts=tuple(contrasts(by_family)),
        seeds=tuple(sorted({result.spec.seed for result in results})),
        runs=text_digest(" ".join(sorted(result.id for result in results)), 16),
    )


def _mixture(of: tuple[Cell, Cell] | None, level: float) -> Mixture | None:
    if of is None:
        return None
    first, second = of
    share, slope = share_and_slope([mean_point(first), mean_point(second)], level)
    return Mixture(_setting(first), _setting(second), share, slope)


def _setting(cell: Cell) -> Setting:
    return cell.spec.strategy, cell.spec.lr


def at_level(mixture: Mixture, points: Mapping[Setting, tuple[float, float]], level: float) -> float:
    """Return the stability of a seed's runs at a plasticity: of the mixture, moved along the line that chose it.

    ``points`` has plasticity and stability by setting. Share and slope are of other runs, so this is a sum of
    accuracies and not a ratio of their means: values of several seeds are tested and averaged as any others.
    """
    (x0, y0), (x1, y1) = points[mixture.first], points[mixture.second]
    x, y = (a + mixture.share * (b - a) for a, b in ((x0, x1), (y0, y1)))
    return y + mixture.slope * (level - x)
