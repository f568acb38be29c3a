"""Outcome: what came of each row and each ordering of a target, as values and as tables."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cl_nvrm.analysis.verdict import MARGIN, Published, Verdict, compared
from cl_nvrm.errors import counted
from cl_nvrm.report.tables import Entry, Table
from cl_nvrm.reproduce.definition import SCORES, Ordering, Row, Target
from cl_nvrm.spec import RunResult


@dataclass(frozen=True)
class RowOutcome:
    """A row with our values in percent, by seed, and the verdict; None if no run has finished."""

    row: Row
    published: Published
    values: tuple[float, ...]
    unfinished: int
    verdict: Verdict | None


@dataclass(frozen=True)
class OrderOutcome:
    """An ordering, the difference of our means in points, and whether it holds; None where a row has no runs."""

    ordering: Ordering
    difference: float | None
    holds: bool | None


@dataclass(frozen=True)
class Outcome:
    """What came of a target."""

    name: str
    target: Target
    rows: tuple[RowOutcome, ...]
    orderings: tuple[OrderOutcome, ...]


def published(target: Target, row: Row) -> Published:
    """Return a row's published number with its standard deviation."""
    runs = (row.runs or target.runs) if row.spread is not None else 1
    deviation = row.spread
    if deviation is not None and target.spread == "sem":
        deviation *= math.sqrt(runs)
    return Published(row.mean, deviation, runs)


def outcome(name: str, target: Target, results: Mapping[str, Sequence[RunResult]]) -> Outcome:
    """Return what came of a target's rows, from the results of each that was asked for, by its name."""
    rows = []
    for row in target.rows:
        if row.name not in results:
            continue
        done = [result for result in results[row.name] if result.status == "done"]
        values = tuple(100 * SCORES[row.score].of(result) for result in done)
        theirs = published(target, row)
        verdict = compared(values, theirs) if values else None
        rows.append(RowOutcome(row, theirs, values, len(results[row.name]) - len(done), verdict))
    means = {found.row.name: math.fsum(found.values) / len(found.values) for found in rows if found.values}
    return Outcome(name, target, tuple(rows), tuple(_ordered(each, means) for each in _asked(target, results)))


def _asked(target: Target, results: Mapping[str, Any]) -> list[Ordering]:
    return [each for each in target.orderings if {each.higher, each.lower} <= results.keys()]


def _ordered(ordering: Ordering, means: Mapping[str, float]) -> OrderOutcome:
    if not {ordering.higher, ordering.lower} <= means.keys():
        return OrderOutcome(ordering, None, None)
    difference = means[ordering.higher] - means[ordering.lower]
    return OrderOutcome(ordering, difference, abs(difference) <= MARGIN if ordering.equal else difference > 0)


def tables(found: Outcome) -> list[Table]:
    """Return the table of rows and, where there are any, that of orderings."""
    made = [_rows(found)]
    if found.orderings:
        made.append(_orderings(found))
    return made


def in_short(found: Outcome) -> str:
    """Return how many rows agree and how many orderings hold, in a line."""
    plain = [each for each in found.rows if not each.row.explains]
    words: list[str] = [each.verdict.word for each in plain if each.verdict]
    parts = [f"{words.count('agrees')} of {counted(len(plain), 'row')} agree" + "s" * (len(plain) == 1)]
    parts += [f"{words.count(word)} {text}" for word, text in _WORDS.items() if words.count(word)]
    if len(words) < len(plain):
        parts.append(f"{len(plain) - len(words)} without a finished run")
    if found.orderings:
        parts.append(f"{sum(each.holds is True for each in found.orderings)} of {len(found.orderings)} orderings hold")
    return ", ".join(parts)


_WORDS = {"differs": "with a difference", "too few seeds": "with too few seeds"}


def as_json(found: Outcome) -> dict[str, Any]:
    """Return an outcome as plain values."""
    return {
        "target": found.name,
        "source": found.target.source,
        "in_short": in_short(found),
        "rows": [
            {
                "row": each.row.name,
                "score": each.row.score,
                "command": f"{found.target.common} {each.row.words}",
                "published": asdict(each.published),
                "ours": list(each.values),
                "unfinished": each.unfinished,
                "verdict": {k: _plain(v) for k, v in asdict(each.verdict).items()} if each.verdict else None,
                "explains": each.row.explains or None,
                "note": each.row.note or None,
            }
            for each in found.rows
        ],
        "orderings": [
            {**asdict(each.ordering), "difference": each.difference, "holds": each.holds} for each in found.orderings
        ],
    }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _rows(found: Outcome) -> Table:
    header = ("", "published", "ours", "difference", "99 % CI", "n", "verdict")
    rows = tuple(_row(each) for each in found.rows)
    note = f"In %, mean ± standard deviation; differences in points, ours minus theirs. {in_short(found)}."
    note += _remarks(found)
    return Table("rows", f"{found.target.about}: {found.target.source}", header, rows, note)


def _remarks(found: Outcome) -> str:
    """What differs in the settings of rows, each remark once."""
    rows: dict[str, list[str]] = {}
    for each in found.rows:
        note = f"explains {each.row.explains}: {each.row.note}" if each.row.explains else each.row.note
        if note:
            rows.setdefault(note, []).append(each.row.name)
    return "".join(f"\n{'; '.join(names)}: {note}." for note, names in rows.items())


def _row(each: RowOutcome) -> tuple[Entry, ...]:
    score = f" ({each.row.score})" if each.row.score != "final accuracy" else ""
    named = Entry(each.row.name + score)
    theirs = Entry(_mean(each.published.mean, each.published.deviation), each.published.mean)
    if each.verdict is None:
        return named, theirs, *[Entry("")] * 3, Entry("0", 0), Entry("no finished run")
    count, verdict = len(each.values), each.verdict
    mean = math.fsum(each.values) / count
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in each.values) / (count - 1)) if count > 1 else None
    word: str = verdict.word
    if word == "differs":
        word = f"differs: {'better' if verdict.difference > 0 else 'worse'}"
    elif word == "too few seeds" and verdict.seeds_needed:
        word = f"too few seeds ({verdict.seeds_needed} do)"
    return (
        named,
        theirs,
        Entry(_mean(mean, deviation), mean),
        Entry(_signed(verdict.difference), verdict.difference),
        Entry("" if math.isnan(verdict.low) else f"{_signed(verdict.low)} to {_signed(verdict.high)}", verdict.low),
        Entry(str(count), count),
        Entry(word),
    )


def _orderings(found: Outcome) -> Table:
    rows = tuple(
        (
            Entry(f"{each.ordering.higher} {'=' if each.ordering.equal else '>'} {each.ordering.lower}"),
            Entry("" if each.difference is None else _signed(each.difference), each.difference),
            Entry({True: "holds", False: "does not hold", None: "no finished run"}[each.holds]),
        )
        for each in found.orderings
    )
    note = f"= within {MARGIN:g} point."
    return Table("orderings", "Published orders", ("", "difference", "verdict"), rows, note)


def _mean(mean: float, deviation: float | None) -> str:
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"


def _signed(value: float) -> str:
    return f"{value:+.2f}"
