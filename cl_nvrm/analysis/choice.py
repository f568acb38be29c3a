"""Choice: the settings of each family's frontier, found on some runs to be judged on others.

A frontier drawn and tested on the same runs flatters whoever has more settings to choose from. So the settings are
chosen on one set of runs (best of held-out images), and what they keep is measured on fresh seeds.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cl_nvrm.analysis.comparisons import Cell, but_for_values
from cl_nvrm.analysis.frontier import Families, contrasts, mixture_at, with_parts
from cl_nvrm.spec import RunSpec, text_digest

Setting = tuple[str, float]  # canonical strategy, learning rate


@dataclass(frozen=True)
class Choice:
    """Two settings of each family for each level of plasticity (None: out of reach), and what they were chosen on.

    ``spec`` holds what all runs to be judged have in common, ``contrasts`` the pairs of families to compare, ``seeds``
    the seeds that chose, ``runs`` a digest of the ids of these runs.
    """

    spec: RunSpec
    levels: tuple[float, ...]
    families: Mapping[str, tuple[tuple[Setting, Setting] | None, ...]]
    contrasts: tuple[tuple[str, str], ...]
    seeds: tuple[int, ...]
    runs: str

    @property
    def settings(self) -> list[Setting]:
        """All settings, each once, in order of families."""
        every = [setting for of in self.families.values() for mixture in of if mixture for setting in mixture]
        return list(dict.fromkeys(every))

    def to_json(self) -> str:
        """Return this choice as an indented JSON text."""
        return json.dumps({"choice": 1, **asdict(self)}, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Choice":
        """Read what ``to_json`` wrote; ValueError for any other text."""
        try:
            values: dict[str, Any] = json.loads(text)
            if values.pop("choice") != 1:
                raise ValueError("of another version")
            return cls(
                spec=RunSpec(**values["spec"]),
                levels=tuple(values["levels"]),
                families={
                    name: tuple(None if both is None else _mixture(both) for both in of)
                    for name, of in values["families"].items()
                },
                contrasts=tuple((first, second) for first, second in values["contrasts"]),
                seeds=tuple(values["seeds"]),
                runs=values["runs"],
            )
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as problem:
            raise ValueError(f"no choice of settings ({problem})") from problem


def _mixture(both: Any) -> tuple[Setting, Setting]:
    (first, lr), (second, other) = both
    return (str(first), float(lr)), (str(second), float(other))


def choose(by_family: Families, spec: RunSpec, levels: Sequence[float]) -> Choice:
    """Choose each family's settings at some levels of plasticity, for runs that are otherwise like ``spec``."""
    found = {
        name: tuple(None if both is None else (_setting(both[0]), _setting(both[1])) for both in mixtures)
        for name, of in with_parts(by_family).items()
        for mixtures in [[mixture_at(of, level) for level in levels]]
    }
    results = [result for of in by_family.values() for cell in of for result in cell.results]
    return Choice(
        spec=but_for_values(spec),
        levels=tuple(levels),
        families=found,
        contrasts=tuple(contrasts(by_family)),
        seeds=tuple(sorted({result.spec.seed for result in results})),
        runs=text_digest(" ".join(sorted(result.id for result in results)), 16),
    )


def _setting(cell: Cell) -> Setting:
    return cell.spec.strategy, cell.spec.lr
