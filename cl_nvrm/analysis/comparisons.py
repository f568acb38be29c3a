"""Comparisons: the cells of a store, and which of them to compare with which, seed by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from cl_nvrm.analysis.metrics import METRICS, WORST, summary
from cl_nvrm.analysis.permutation import max_t_p
from cl_nvrm.analysis.stats import Comparison, compare
from cl_nvrm.errors import UserError
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

    @property
    def diverged(self) -> tuple[RunResult, ...]:
        """The trials whose training diverged."""
        return tuple(r for r in self.results if r.status == "diverged")

    def judged(self, name: str) -> dict[int, float]:
        """Return a metric by seed, as ``values``, with the worst there is for trials that diverged.

        Left out, these would earn a method praise for the seeds on which it works.
        """
        return self.values(name) | {r.spec.seed: WORST[name] for r in self.diverged}

    @cached_property
    def _values(self) -> dict[str, dict[int, float]]:
        # Once for all: comparisons and frontiers ask for the same metrics over and over.
        found = [(r.spec.seed, summary(r)) for r in self.done]
        return {
            name: {seed: value for seed, all_of in found if (value := all_of[name].value) is not None}
            for name in METRICS
        }


@dataclass(frozen=True)
class Contrast:
    """A comparison that is named before the runs: ``first`` minus ``second``, cells or families, in one metric."""

    first: str
    second: str
    metric: str = "ACC"

    @classmethod
    def parse(cls, text: str) -> "Contrast":
        """Read ``first - second`` or ``first - second: metric``; UserError for anything else.

        >>> Contrast.parse("ewc:lambda=30 - naive: BWT")
        Contrast(first='ewc:lambda=30', second='naive', metric='BWT')
        """
        names, colon, metric = text.partition(": ")
        first, minus, second = (part.strip() for part in names.partition(" - "))
        metric = metric.strip() if colon else cls.metric
        if not (first and minus and second) or metric not in METRICS:
            raise UserError(
                f"'{text}' is no contrast; write 'nvrm - naive' or 'nvrm - naive: METRIC', which is one of "
                f"{', '.join(METRICS)}"
            )
        return cls(first, second, metric)


@dataclass(frozen=True)
class Paired:
    """``first`` minus ``second`` in one metric, with p adjusted for all ``family`` comparisons of its kind (max-T).

    Of two kinds: ``primary`` ones, named before the runs, and all others. ``reference`` says that tables hold ``first``
    against ``second``, ``diverged`` how many runs of each diverged and count as the worst there is.
    """

    metric: str
    first: str
    second: str
    found: Comparison
    p_adjusted: float
    family: int
    reference: bool
    primary: bool = False
    diverged: tuple[int, int] = (0, 0)


def cells(results: Sequence[RunResult], names: Mapping[RunSpec, str]) -> list[Cell]:
    """Return the cells in the order of ``names``."""
    groups: dict[RunSpec, list[RunResult]] = {cell: [] for cell in names}
    for result in results:
        groups[result.spec.cell].append(result)
    order = {cell: tuple(sorted(group, key=lambda r: r.spec.seed)) for cell, group in groups.items()}
    return [Cell(names[cell], cell, group) for cell, group in order.items() if group]


def references(of: Sequence[Cell]) -> dict[RunSpec, Cell]:
    """Return what to hold each cell against, by its spec.

    It is the first strategy with the same other settings, or else the first cell.
    """
    known = {cell.spec: cell for cell in of}
    wanted = {spec: replace(spec, strategy=of[0].spec.strategy) for spec in known}
    return {spec: known[other] if other in known and other != spec else of[0] for spec, other in wanted.items()}


def pairs(of: Sequence[Cell]) -> list[tuple[Cell, Cell]]:
    """Return what to compare: each cell with its reference, and each sum with itself less one term."""
    held = references(of)
    chosen = {(cell.spec, held[cell.spec].spec): (cell, held[cell.spec]) for cell in of[1:]}
    places: dict[object, list[int]] = {}  # looked up, as each with each is too many in a store of a thousand settings
    for place, cell in enumerate(of):
        places.setdefault(_setting(cell.spec, _terms(cell.spec)), []).append(place)
    for cell in of:
        terms = _terms(cell.spec)
        less = [places.get(_setting(cell.spec, terms - {term}), []) for term in terms]
        for other in (of[place] for place in sorted(place for part in less for place in part)):
            chosen.setdefault((cell.spec, other.spec), (cell, other))
    return list(chosen.values())


def comparisons(of: Sequence[Cell], primary: Sequence[Contrast] = ()) -> list[Paired]:
    """Compare the chosen pairs in every metric, on the seeds both have, at least two; primary contrasts first.

    p is adjusted for all primary ones, and for all others whatever their metric. A primary contrast of cells that are
    not here is left out; UserError if one of those that are has no number.
    """
    held = references(of)
    named, others = [], []
    for contrast in primary:
        first, second = (_called(name, of) for name in (contrast.first, contrast.second))
        if first and second:
            row = _compare(first, second, contrast.metric, held)
            if row is None:
                raise UserError(f"{contrast.first} and {contrast.second} have no {contrast.metric} of two common seeds")
            named.append(replace(row, primary=True))
    told = {(row.first, row.second, row.metric) for row in named}
    chosen = pairs(of)
    for name in METRICS:
        for first, second in chosen:
            row = _compare(first, second, name, held)
            if row is not None and (row.first, row.second, name) not in told:
                others.append(row)
    return [*_adjusted(named), *_adjusted(others)]


def _called(name: str, of: Sequence[Cell]) -> Cell | None:
    """The cell of that name, or else the only one of that family."""
    found = [cell for cell in of if cell.name == name]
    found = found or [cell for cell in of if grammar.family(cell.spec.strategy) == name]
    return found[0] if len(found) == 1 else None


def check_named(contrasts: Sequence[Contrast], *sections: Mapping[RunSpec, str]) -> None:
    """Raise UserError for a contrast that no section has both sides of, cells or families of a single cell."""
    shown = [[Cell(name, spec, ()) for spec, name in names.items()] for names in sections]
    for contrast in contrasts:
        sides = (contrast.first, contrast.second)
        if any(all(_called(name, of) for name in sides) for of in shown):
            continue
        known = ", ".join(dict.fromkeys(f"'{cell.name}'" for of in shown for cell in of))
        missing = next((name for name in sides if not any(_called(name, of) for of in shown)), contrast.first)
        raise UserError(f"there is no single '{missing}' for '{contrast.first} - {contrast.second}'; there are {known}")


def _compare(first: Cell, second: Cell, name: str, held: Mapping[RunSpec, Cell]) -> Paired | None:
    if any(cell.done and not cell.values(name) for cell in (first, second)) or not (first.done or second.done):
        return None  # not defined here
    found = compare(first.judged(name), second.judged(name))
    if found is None or found.n < 2:
        return None
    diverged = len(first.diverged), len(second.diverged)
    is_reference = second is held[first.spec]
    return Paired(name, first.name, second.name, found, found.p, 1, is_reference, diverged=diverged)


def _adjusted(rows: Sequence[Paired]) -> list[Paired]:
    adjusted = max_t_p([row.found.values for row in rows])
    return [
        replace(row, p_adjusted=max(row.found.p, p), family=len(rows)) for row, p in zip(rows, adjusted, strict=True)
    ]


def less_one_term(whole: str, part: str) -> bool:
    """Return whether ``part`` is the sum ``whole`` without one of its terms."""
    terms, fewer = (set(grammar.PLUS.split(text)) - {grammar.NEUTRAL} for text in (whole, part))
    return fewer < terms and len(terms) == len(fewer) + 1


def but_for_values(spec: RunSpec) -> RunSpec:
    """Return the settings that methods must share to be compared, whatever their strengths and learning rates."""
    return replace(spec, strategy="", lr=0.0, seed=0, chosen="", eval_every=0)


def _terms(spec: RunSpec) -> frozenset[str]:
    """The terms of a sum; without their values where a search chose these, so that each term has its own."""
    text = grammar.family(spec.strategy) if spec.chosen else spec.strategy
    return frozenset(grammar.PLUS.split(text)) - {grammar.NEUTRAL}


def _setting(spec: RunSpec, terms: frozenset[str]) -> object:
    """What two cells share if they are sums of the same terms in the same setting."""
    return bool(spec.chosen), but_for_values(spec) if spec.chosen else replace(spec, strategy=""), terms
