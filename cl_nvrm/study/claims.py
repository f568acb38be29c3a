"""Claims: sentences of the pages whose numbers come from committed runs.

Beside a page lies ``claims.toml``. A claim ``says`` a text with fields, ``{kept.mean:.1f}``, and says what the names in
them are numbers of:

    [[claim]]
    says = "keeps {kept.mean:.1f} points more ({kept.low:.1f} to {kept.high:.1f}, n = {kept.n})"
    kept = { store = "runs", minus = ["nvrm", "naive"], metric = "base task" }

The text is looked for in the page with any numbers in the place of its fields, and with other line breaks; these
numbers are then compared, or written. ``each`` repeats a claim, as for the rows of a table, with texts for ``<name>``.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Formatter
from types import SimpleNamespace
from typing import Any

from cl_nvrm.analysis.comparisons import Cell, cells
from cl_nvrm.analysis.metrics import WORST
from cl_nvrm.analysis.stats import compare, mean_sd, t_interval
from cl_nvrm.errors import UserError
from cl_nvrm.spec import RunResult
from cl_nvrm.spec.cell_names import cell_names, short_name
from cl_nvrm.study.measured import measured
from cl_nvrm.sweep.store import Store

NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?"


@dataclass(frozen=True)
class Claim:
    """A text with fields, the page it stands on, and the numbers by the names in its fields."""

    page: Path
    says: str
    numbers: Mapping[str, Any]

    @property
    def parts(self) -> list[tuple[str, str]]:
        """The texts between fields, each with the number that follows it, written out; the last has none."""
        found = []
        for text, name, form, _ in Formatter().parse(self.says):
            value = "" if name is None else _written(self._value(name), form or "")
            found.append((text, value))
        return found

    def _value(self, name: str) -> Any:
        first, _, rest = name.partition(".")
        try:
            return getattr(self.numbers[first], rest) if rest else self.numbers[first]
        except (KeyError, AttributeError) as problem:
            raise UserError(f"{self.page}: no number '{name}' for '{self.says}'") from problem

    def spans(self, text: str) -> list[re.Match[str]]:
        """Return where it stands on a page, whatever its numbers are; each number is a group."""
        pattern = "".join(_loosely(words) + f"({NUMBER})" * bool(value) for words, value in self.parts)
        return list(re.finditer(pattern, text))

    def wrong(self, text: str) -> list[str]:
        """Return what is wrong with the page: that the claim is not there, or which of its numbers are others."""
        found = self.spans(text)
        if not found:
            return [f"{self.page} does not say '{self.says}'"]
        right = [value for _, value in self.parts if value]
        return [
            f"{self.page}: '{_in_a_line(match[0])}' should have {', '.join(right)}"
            for match in found
            if list(match.groups()) != right
        ]

    def written(self, text: str) -> str:
        """Return the page with the right numbers."""
        right = [value for _, value in self.parts if value]
        for match in reversed(self.spans(text)):
            for number in reversed(range(len(right))):
                start, end = match.span(number + 1)
                text = text[:start] + right[number] + text[end:]
        return text


def claims(root: Path) -> list[Claim]:
    """Return all claims below a folder; UserError for one that is not written as it should be."""
    return [claim for path in sorted(root.rglob("claims.toml")) for claim in _of_a_file(path)]


def check(root: Path, *, write: bool = False) -> list[str]:
    """Return what is wrong with the pages below a folder, after writing the right numbers if so asked."""
    problems = []
    for claim in claims(root):
        text = claim.page.read_text(encoding="utf-8")
        if write and (new := claim.written(text)) != text:
            claim.page.write_text(new, encoding="utf-8")
            text = new
        problems += claim.wrong(text)
    return problems


def _of_a_file(path: Path) -> Iterator[Claim]:
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
        for values in told["claim"]:
            for names in values.get("each", [{}]):
                yield _claim(path.parent, _with_names(values, names))
    except (KeyError, TypeError, ValueError) as problem:
        raise UserError(f"{path} is no list of claims ({problem!r})") from problem


def _claim(folder: Path, values: Mapping[str, Any]) -> Claim:
    numbers = {name: found(folder, query) for name, query in values.items() if name not in ("says", "page", "each")}
    return Claim((folder / values.get("page", "README.md")).resolve(), values["says"], numbers)


def _with_names(values: Any, names: Mapping[str, Any]) -> Any:
    """The values with texts in the place of ``<name>``."""
    if isinstance(values, str):
        for name, text in names.items():
            values = values.replace(f"<{name}>", str(text))
        return values
    if isinstance(values, list):
        return [_with_names(value, names) for value in values]
    if isinstance(values, dict):
        return {key: _with_names(value, names) for key, value in values.items()}
    return values


def found(folder: Path, query: Mapping[str, Any]) -> Any:
    """Return the numbers that a query asks for, in percent or points where they are shares.

    ``numbers`` (a JSON file) and ``key`` (several, for a value within values; a table for the one row of a list that
    has its values): that value, ``times`` one number and ``plus`` another, or what a row has. ``store``, ``cell`` and
    ``metric``: mean, sd, low and high end, n, of that cell, ``times`` 100 or another number; metrics are all that
    ``measured`` knows. ``minus``, two cells: the same of the difference by seed, and its p; ``metrics`` and ``wheres``,
    one for each, where they differ. ``where`` has settings of runs; a text is a part of one, a list has several.
    ``reproduced``, the folder of a target: how many rows and orders there are, and agree; with ``row``, our mean, sd, n
    and the published one.
    """
    if "reproduced" in query:
        return _reproduced(
            json.loads((folder / query["reproduced"] / "result.json").read_text(encoding="utf-8")), query
        )
    if "numbers" in query:
        return _number(json.loads((folder / query["numbers"]).read_text(encoding="utf-8")), query)
    names = query.get("minus") or [query["cell"]]
    metrics = query.get("metrics") or [query["metric"]] * len(names)
    wheres = query.get("wheres") or [query.get("where", {})] * len(names)
    shown = [_cell(folder / query["store"], name, where) for name, where in zip(names, wheres, strict=True)]
    values = [measured(folder / query["store"], *asked) for asked in zip(shown, metrics, strict=True)]
    times = query.get("times", 100)
    if len(values) == 1:
        return _mean(list(values[0].values()), times)
    compared = compare(*(_with_diverged(*each) for each in zip(shown, metrics, values, strict=True)))
    if compared is None:
        raise UserError(f"{' and '.join(names)} have no {' and '.join(dict.fromkeys(metrics))} of common seeds")
    return SimpleNamespace(**vars(_mean(list(compared.values.values()), times)), p=compared.p)


def _with_diverged(cell: Cell, metric: str, values: Mapping[int, float]) -> dict[int, float]:
    """The values of a cell as tables compare them: the worst there is for runs that diverged."""
    return dict(values) | ({} if metric not in WORST else {r.spec.seed: WORST[metric] for r in cell.diverged})


def _number(value: Any, query: Mapping[str, Any]) -> Any:
    for key in query["key"] if isinstance(query["key"], list) else [query["key"]]:
        if isinstance(key, dict):
            (value,) = [row for row in value if all(row[name] == wanted for name, wanted in key.items())]
        else:
            value = value[key]
    return SimpleNamespace(**value) if isinstance(value, dict) else value * query.get("times", 1) + query.get("plus", 0)


def _reproduced(result: Mapping[str, Any], query: Mapping[str, Any]) -> SimpleNamespace:
    rows = [row for row in result["rows"] if not row["explains"]]
    if "row" in query:
        (row,) = [row for row in result["rows"] if row["row"] == query["row"]]
        (mean, sd), theirs = mean_sd(row["ours"]), row["published"]
        return SimpleNamespace(
            mean=mean, sd=sd, n=len(row["ours"]), published=theirs["mean"], spread=theirs["deviation"]
        )
    words = [row["word"] for row in rows]
    return SimpleNamespace(
        rows=len(rows),
        agree=words.count("agrees"),
        differ=words.count("differs"),
        undecided=words.count("too few seeds"),
        pairs=len(result["pairs"]),
        same=sum(pair["place"] == "same" for pair in result["pairs"]),
    )


def _mean(values: Sequence[float], times: float) -> SimpleNamespace:
    values = [times * value for value in values]
    (mean, sd), (low, high) = mean_sd(values), t_interval(values)
    return SimpleNamespace(mean=mean, sd=sd, low=low, high=high, n=len(values))


def _cell(folder: Path, name: str, where: Mapping[str, Any]) -> Cell:
    """The one cell of a store that is called so and has these settings."""
    found = [cell for short, cell in _cells(folder) if short == name and _fits(cell, where)]
    if len(found) != 1:
        raise UserError(f"{folder} has {len(found)} cells called '{name}' with {dict(where)}")
    return found[0]


def _fits(cell: Cell, where: Mapping[str, Any]) -> bool:
    return all(_is(getattr(cell.spec, key), value) for key, value in where.items())


def _is(setting: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return all(text in setting for text in wanted)
    return wanted in str(setting) if isinstance(wanted, str) and wanted else setting == wanted


@cache
def _cells(folder: Path) -> tuple[tuple[str, Cell], ...]:
    """The cells of a store, with the short names of their strategies."""
    results: list[RunResult] = Store(folder).load()[0]
    found = cells(results, cell_names(result.spec for result in results))
    names = {strategy: short_name(strategy) for strategy in {cell.spec.strategy for cell in found}}
    return tuple((names[cell.spec.strategy], cell) for cell in found)


def _written(value: Any, form: str) -> str:
    text = format(value, form)
    return text[1:] if re.fullmatch(r"-0(\.0*)?", text) else text


def _loosely(words: str) -> str:
    """A pattern for a text whose lines may be broken elsewhere."""
    return r"\s+".join(map(re.escape, re.split(r"\s+", words)))


def _in_a_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)
