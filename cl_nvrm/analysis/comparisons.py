"""Comparisons: the cells of a store, and which of them to compare with which, seed by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from cl_nvrm.analysis.metrics import METRICS, summary
from cl_nvrm.analysis.stats import Comparison, compare, holm
from cl_nvrm.spec import RunResult, RunSpec, grammar


@dataclass(frozen=True)
class Cell:
    """All trials of one setting: its ``name``, its spec without the seed, the results in order of seeds."""

    name: str
    spec: RunSpec
    results: tuple[RunResult, ...]

    @property
    def done(self) -> tuple[RunResult, ...]:
        """The finished trials."""
        return tuple(r for r in self.results if r.status == "done")

    def values(self, name: str) -> dict[int, float]:
        """Return a metric of the finished trials by seed, where it is defined."""
        return self._values[name]

    @cached_property
    def _values(self) -> dict[str, dict[int, float]]:
        # Once for all: comparisons and frontiers ask for the same metrics over and over.
        found = [(r.spec.seed, summary(r)) for r in self.done]
        return {
            name: {seed: value for seed, all_of in found if (value := all_of[name].value) is not None}
            for name in METRICS
        }


@dataclass(frozen=True)
class Paired:
    """``first`` minus ``second`` in one metric, and p adjusted for all comparisons made in that metric (Holm).

    ``family`` is the number of these; ``reference`` says that tables hold ``first`` against ``second``.
    """

    metric: str
    first: str
    second: str
    found: Comparison
    p_holm: float
    family: int
    reference: bool


def cells(results: Sequence[RunResult], names: Mapping[RunSpec, str]) -> list[Cell]:
    """Return the cells in the order of ``names``."""
    groups: dict[RunSpec, list[RunResult]] = {cell: [] for cell in names}
    for result in results:
        groups[result.spec.cell].append(result)
    order = {cell: tuple(sorted(group, key=lambda r: r.spec.seed)) for cell, group in groups.items()}
    return [Cell(names[cell], cell, group) for cell, group in order.items() if group]


def reference(cell: Cell, of: Sequence[Cell]) -> Cell:
    """Return what to hold a cell against: the first strategy with the same other settings, or else the first cell."""
    wanted = replace(cell.spec, strategy=of[0].spec.strategy)
    return next((other for other in of if other.spec == wanted and other is not cell), of[0])


def pairs(of: Sequence[Cell]) -> list[tuple[Cell, Cell]]:
    """Return what to compare: each cell with its reference, and each sum with itself less one term."""
    chosen = [(cell, reference(cell, of)) for cell in of[1:]]
    for cell in of:
        for other in of:
            if _less_one_term(cell.spec, other.spec) and (cell, other) not in chosen:
                chosen.append((cell, other))
    return chosen


def comparisons(of: Sequence[Cell], metric_names: Sequence[str]) -> list[Paired]:
    """Compare the chosen pairs in each metric, on the seeds both have; at least two of them."""
    rows = []
    chosen = [(first, second, second is reference(first, of)) for first, second in pairs(of)]
    for name in metric_names:
        made = []
        for first, second, held in chosen:
            found = compare(first.values(name), second.values(name))
            if found is not None and found.n > 1:
                made.append((first.name, second.name, found, held))
        adjusted = holm([found.p for _, _, found, _ in made])
        rows += [
            Paired(name, first, second, found, p, len(made), held)
            for (first, second, found, held), p in zip(made, adjusted, strict=True)
        ]
    return rows


def less_one_term(whole: str, part: str) -> bool:
    """Return whether ``part`` is the sum ``whole`` without one of its terms."""
    terms, fewer = (set(grammar.PLUS.split(text)) - {grammar.NEUTRAL} for text in (whole, part))
    return fewer < terms and len(terms) == len(fewer) + 1


def but_for_values(spec: RunSpec) -> RunSpec:
    """Return the settings that methods must share to be compared, whatever their strengths and learning rates."""
    return replace(spec, strategy="", lr=0.0, seed=0, chosen="", eval_every=0)


def _less_one_term(whole: RunSpec, part: RunSpec) -> bool:
    if whole.chosen and part.chosen:  # each has its own values, by the same search
        alike = but_for_values(whole) == but_for_values(part)
        return alike and less_one_term(grammar.family(whole.strategy), grammar.family(part.strategy))
    return replace(whole, strategy=part.strategy) == part and less_one_term(whole.strategy, part.strategy)
