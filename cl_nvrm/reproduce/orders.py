"""Orders: whether rows stand to each other as the publication has them, the listed ones and all that can be told.

Levels may move with a framework or a setting; that one method ends above another should not. An order is of two rows of
one group, rows whose names have the same end after the last comma: "EWC, class" and "SI, class".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from cl_nvrm.analysis.verdict import MARGIN, Published, sample, welch
from cl_nvrm.reproduce.definition import Ordering, Row

Place = Literal["same", "reversed", "open"]


@dataclass(frozen=True)
class OrderOutcome:
    """A listed order, the difference of our means in points, and whether it holds; None where a row has no runs."""

    ordering: Ordering
    difference: float | None
    holds: bool | None


@dataclass(frozen=True)
class PairOutcome:
    """Two rows of a group that the publication tells apart: its difference and ours, in points, the higher one first.

    ``place`` is "same" if ours has the same sign; "reversed" if it has the other one, with a 99 % interval (Welch) that
    leaves out 0; otherwise "open".
    """

    group: str
    higher: str
    lower: str
    published: float
    ours: float
    place: Place


def listed(orderings: Sequence[Ordering], values: Mapping[str, Sequence[float]]) -> tuple[OrderOutcome, ...]:
    """Return what came of the listed orders; ``values`` are ours in percent, by the name of the row."""
    return tuple(_listed(each, values) for each in orderings)


def _listed(ordering: Ordering, values: Mapping[str, Sequence[float]]) -> OrderOutcome:
    if not values.get(ordering.higher) or not values.get(ordering.lower):
        return OrderOutcome(ordering, None, None)
    difference = sample(values[ordering.higher]).mean - sample(values[ordering.lower]).mean
    return OrderOutcome(ordering, difference, abs(difference) <= MARGIN if ordering.equal else difference > 0)


def pairs(rows: Sequence[tuple[Row, Published]], values: Mapping[str, Sequence[float]]) -> tuple[PairOutcome, ...]:
    """Return all pairs of a group that the publication tells apart and that have runs of ours.

    It does where its means differ by more than the margin and, if their deviations are given, its own 99 % interval
    (Welch) leaves out 0. Rows that explain others do not count.
    """
    found = []
    for (one, first), (other, second) in combinations(rows, 2):
        group = one.name.rpartition(", ")[2]
        alike = one.score == other.score and group == other.name.rpartition(", ")[2] and group != one.name
        if not alike or one.explains or other.explains or not values.get(one.name) or not values.get(other.name):
            continue
        theirs = first.mean - second.mean
        if abs(theirs) <= max(first.margin, second.margin) or not _told(theirs, welch(first, second)):
            continue
        names = (one.name, other.name) if theirs > 0 else (other.name, one.name)
        found.append(PairOutcome(group, *names, abs(theirs), *_ours(values[names[0]], values[names[1]])))
    return tuple(found)


def _ours(higher: Sequence[float], lower: Sequence[float]) -> tuple[float, Place]:
    first, second = sample(higher), sample(lower)
    difference = first.mean - second.mean
    if difference > 0:
        return difference, "same"
    half = welch(first, second)
    return difference, "reversed" if not math.isnan(half) and _told(difference, half) else "open"


def _told(difference: float, half: float) -> bool:
    return math.isnan(half) or abs(difference) > half
