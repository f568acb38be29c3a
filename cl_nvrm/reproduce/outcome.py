"""Outcome: what came of each row and each order of a target, as values and as tables."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cl_nvrm.analysis.verdict import MARGIN, Published, Verdict, compared, sample
from cl_nvrm.errors import UserError, counted
from cl_nvrm.report.tables import Entry, Table
from cl_nvrm.reproduce.definition import SCORES, Row, Target
from cl_nvrm.reproduce.orders import OrderOutcome, PairOutcome, listed, pairs
from cl_nvrm.spec import RunResult


@dataclass(frozen=True)
class RowOutcome:
    """A row with our values in percent, by seed, and the verdict; None if no run has finished.

    ``diverged`` runs have no value: where there are any, the row differs. ``failed`` ones ended with an error.
    """

    row: Row
    published: Published
    values: tuple[float, ...]
    diverged: int
    failed: int
    verdict: Verdict | None

    @property
    def word(self) -> str:
        """The verdict in words, "" if no run has finished or diverged."""
        if self.diverged:
            return "differs"
        return self.verdict.word if self.verdict else ""


@dataclass(frozen=True)
class Outcome:
    """What came of a target; ``made_by`` says which versions the runs are of."""

    name: str
    target: Target
    rows: tuple[RowOutcome, ...]
    orderings: tuple[OrderOutcome, ...]
    pairs: tuple[PairOutcome, ...]
    made_by: str


def published(target: Target, row: Row) -> Published:
    """Return a row's published number with its standard deviation."""
    runs = (row.runs or target.runs) if row.spread is not None else 1
    deviation = row.spread
    if deviation is not None and target.spread == "sem":
        deviation *= math.sqrt(runs)
    return Published(row.mean, deviation, runs)


def outcome(name: str, target: Target, results: Mapping[str, Sequence[RunResult]]) -> Outcome:
    """Return what came of a target's rows, from the results of each that was asked for, by its name."""
    rows = [_row_outcome(target, row, results[row.name]) for row in target.rows if row.name in results]
    values = {found.row.name: found.values for found in rows}
    asked = [each for each in target.orderings if {each.higher, each.lower} <= results.keys()]
    told = pairs([(found.row, found.published) for found in rows], values)
    every = {result.id: result for row in results.values() for result in row}
    return Outcome(name, target, tuple(rows), listed(asked, values), told, _made_by(list(every.values())))


def _row_outcome(target: Target, row: Row, results: Sequence[RunResult]) -> RowOutcome:
    try:
        values = tuple(100 * SCORES[row.score].of(result) for result in results if result.status == "done")
    except ValueError as problem:
        raise UserError(f"'{row.name}': its runs have no {row.score} ({problem})") from problem
    diverged = sum(result.status == "diverged" for result in results)
    theirs = published(target, row)
    verdict = compared(values, theirs) if values else None
    return RowOutcome(row, theirs, values, diverged, len(results) - len(values) - diverged, verdict)


def _made_by(results: Sequence[RunResult]) -> str:
    """Which versions, of which commits, on what the runs were made."""
    told = [result.provenance for result in results]
    texts = {
        "cl_nvrm": (str(each.get("commit") or "")[:7] + "+" * bool(each.get("dirty")) for each in told),
        "torch": (str(each.get("versions", {}).get("torch", "")) for each in told),
        "on": (str(each.get("device", "")) for each in told),
    }
    found = {name: ", ".join(sorted({value for value in values if value})) for name, values in texts.items()}
    return "; ".join(f"{name} {values}" for name, values in found.items() if values)


def tables(found: Outcome) -> list[Table]:
    """Return the table of rows, those of orders where there are any, and that of commands."""
    made = [_rows(found)]
    if found.orderings:
        made.append(_orderings(found))
    if found.pairs:
        made.append(_pairs(found))
    return [*made, _commands(found)]


def in_short(found: Outcome) -> str:
    """Return how many rows agree and how many orders hold, in a line."""
    plain = [each for each in found.rows if not each.row.explains]
    words = [each.word for each in plain if each.word]
    close = sum(each.word == "agrees" and each.verdict is not None and each.verdict.close for each in plain)
    parts = [f"{words.count('agrees')} of {counted(len(plain), 'row')} agree" + "s" * (len(plain) == 1)]
    parts += [f"{close} of them with the whole interval within the margin"] * bool(words.count("agrees"))
    parts += [f"{words.count(word)} {text}" for word, text in _WORDS.items() if words.count(word)]
    if len(words) < len(plain):
        parts.append(f"{len(plain) - len(words)} without a finished run")
    if found.orderings:
        parts.append(
            f"{sum(each.holds is True for each in found.orderings)} of {len(found.orderings)} listed orders hold"
        )
    if found.pairs:
        same = sum(each.place == "same" for each in found.pairs)
        parts.append(f"{same} of all {len(found.pairs)} pairs of rows that the publication tells apart have its order")
    return ", ".join(parts)


_WORDS = {"differs": "with a difference", "too few seeds": "with too few seeds"}


def as_json(found: Outcome) -> dict[str, Any]:
    """Return an outcome as plain values."""
    return {
        "target": found.name,
        "source": found.target.source,
        "in_short": in_short(found),
        "made_by": found.made_by,
        "rows": [
            {
                "row": each.row.name,
                "score": each.row.score,
                "command": _command(found.target, each.row),
                "published": asdict(each.published),
                "ours": list(each.values),
                "diverged": each.diverged,
                "failed": each.failed,
                "word": each.word or None,
                "verdict": {k: _plain(v) for k, v in asdict(each.verdict).items()} if each.verdict else None,
                "explains": each.row.explains or None,
                "note": each.row.note or None,
            }
            for each in found.rows
        ],
        "orderings": [
            {**asdict(each.ordering), "difference": each.difference, "holds": each.holds} for each in found.orderings
        ],
        "pairs": [asdict(each) for each in found.pairs],
    }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _command(target: Target, row: Row) -> str:
    data = f" --data {target.data}" if target.data else ""
    return f"{row.words} {target.common}{data}"


def _rows(found: Outcome) -> Table:
    header = ("", "published", "n", "ours", "n", "difference", "99 % CI", "verdict")
    rows = tuple(_row(each) for each in found.rows)
    note = (
        "In %, mean ± standard deviation; differences in points, ours minus theirs, with a Welch interval. "
        f"{in_short(found)}."
    )
    note += _remarks(found)
    if found.made_by:
        note += f"\nMade by {found.made_by}."
    return Table("rows", f"{found.target.about}: {found.target.source}", header, rows, note)


def _remarks(found: Outcome) -> str:
    """What differs in the settings of rows, each remark once."""
    rows: dict[str, list[str]] = {}
    for each in found.rows:
        note = f"repeats {each.row.explains} with this: {each.row.note}" if each.row.explains else each.row.note
        if note:
            rows.setdefault(note, []).append(each.row.name)
    return "".join(f"\n{'; '.join(names)}: {note}." for note, names in rows.items())


def _row(each: RowOutcome) -> tuple[Entry, ...]:
    told = each.row.score == "final accuracy" or each.row.score in each.row.name
    score = "" if told else f" ({each.row.score})"
    theirs = each.published
    known = (
        Entry(each.row.name + score),
        Entry(_mean(theirs.mean, theirs.deviation), theirs.mean),
        Entry(str(theirs.runs), theirs.runs),
    )
    if each.verdict is None:
        return *known, Entry(""), Entry("0", 0), Entry(""), Entry(""), Entry(_in_words(each))
    own, verdict = sample(each.values), each.verdict
    return (
        *known,
        Entry(_mean(own.mean, own.deviation), own.mean),
        Entry(str(own.runs), own.runs),
        Entry(_signed(verdict.difference), verdict.difference),
        Entry("" if math.isnan(verdict.low) else f"{_signed(verdict.low)} to {_signed(verdict.high)}", verdict.low),
        Entry(_in_words(each)),
    )


def _in_words(each: RowOutcome) -> str:
    if each.diverged:
        return f"differs: {each.diverged} of {counted(each.diverged + len(each.values), 'run')} diverged"
    if each.verdict is None:
        return "no finished run"
    word: str = each.verdict.word
    if word == "differs":
        word = f"differs: {'better' if each.verdict.difference > 0 else 'worse'}"
    elif word == "too few seeds" and each.verdict.seeds_needed:
        word = f"too few seeds ({each.verdict.seeds_needed} do)"
    elif word == "too few seeds":
        word = "too few seeds, ours or theirs"
    return f"{word}, {each.failed} failed" if each.failed else word


def _orderings(found: Outcome) -> Table:
    rows = tuple(
        (
            Entry(f"{each.ordering.higher} {'=' if each.ordering.equal else '>'} {each.ordering.lower}"),
            Entry("" if each.difference is None else _signed(each.difference), each.difference),
            Entry({True: "holds", False: "does not hold", None: "no finished run"}[each.holds]),
        )
        for each in found.orderings
    )
    note = f"> holds if our means differ that way, = if they are within {MARGIN:g} point; no test is made."
    return Table("orderings", "Orders listed before the runs", ("", "difference", "verdict"), rows, note)


def _pairs(found: Outcome) -> Table:
    """How many pairs have the published order, by group; the others one by one."""
    groups = {each.group: Counter[str]() for each in found.pairs}
    for each in found.pairs:
        groups[each.group][each.place] += 1
    rows = tuple(
        (
            Entry(group),
            *(Entry(str(n), n) for n in (counts.total(), counts["same"], counts["open"], counts["reversed"])),
        )
        for group, counts in groups.items()
    )
    note = (
        "Pairs of rows whose published means differ by more than the margin and by more than chance (99 %). Reversed: "
        "ours differ the other way by more than chance; open: the other way, and it may be chance."
    )
    others = [each for each in found.pairs if each.place != "same"]
    note += "".join(
        f"\n{each.higher} > {each.lower}: {_signed(each.published)} published, {_signed(each.ours)} ours, {each.place}."
        for each in others
    )
    return Table("pairs", "All published orders", ("group", "pairs", "same", "open", "reversed"), rows, note)


def _commands(found: Outcome) -> Table:
    rows = tuple((Entry(each.row.name), Entry(_command(found.target, each.row))) for each in found.rows)
    note = "What follows python -m cl_nvrm.run; --trials is how many seeds a row has, the same ones for all."
    return Table("commands", "Settings of each row", ("", "words of the main command"), rows, note, texts=2)


def _mean(mean: float, deviation: float | None) -> str:
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"


def _signed(value: float) -> str:
    return f"{value:+.2f}"
