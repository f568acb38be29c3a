"""Filters: which runs of which folders are meant, as words: ``strategy=ewc*``, ``lr<1e-3``, ``since=7d``.

All filters must hold. ``=`` and ``!=`` take several values, ``a|b``, with ``*`` and ``?`` as in file names; numbers
are compared as numbers. A run that does not have what a filter asks for is left out, by ``!=``, too.
"""

import difflib
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from cl_nvrm.analysis.metrics import METRICS
from cl_nvrm.errors import UserError
from cl_nvrm.spec import RunSpec
from cl_nvrm.spec.settings import TERMS, contains, value
from cl_nvrm.sweep.contents import FINISHED, STATUSES, StoredRun, contents
from cl_nvrm.sweep.store import Store

DEFAULT_FOLDER = Path("reports/runs")
WORD = re.compile(r"\s*([A-Za-z][\w: -]*?)\s*(!=|<=|>=|=|<|>)\s*(.*?)\s*", re.DOTALL)
RUN_ID = re.compile("[0-9a-f]{4,16}")
AGE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*([hdw])")
HOURS = {"h": 1, "d": 24, "w": 7 * 24}
MEASURED = ("weights", "size", "seconds", "device", "commit", *METRICS)
OWN = ("id", "status", "since", "until")
ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def plain(key: str) -> str:
    """Return a key as it is compared: ``batch-size``, ``batch_size`` and ``Batch size`` are the same."""
    return re.sub("[ -]", "_", key.strip().lower())


@dataclass(frozen=True)
class Filter:
    """One condition: a key, an operator and a text."""

    key: str
    operator: str
    text: str

    @classmethod
    def parse(cls, word: str) -> "Filter":
        """Read ``key=value``, or another operator; UserError for a value that cannot be meant."""
        match = WORD.fullmatch(word)
        if not match or not match[3]:
            raise UserError(f"'{word}' is no filter; write KEY=VALUE, as strategy=ewc* or 'lr<1e-3'")
        made = cls(plain(match[1]), match[2], match[3])
        made._check()
        return made

    def _check(self) -> None:
        if self.key in ("since", "until"):
            if self.operator != "=":
                raise UserError(f"write {self.key}=2026-10-01 or {self.key}=7d, with =")
            _moment(self)
        elif self.operator in ORDER and (self.key in ("id", "status") or not _is_number(value(self.text))):
            raise UserError(f"'{self}': {self.operator} compares numbers; write {self.key}={self.text}")
        elif self.key == "status":
            for one in self.text.split("|"):
                if not any(fnmatchcase(status, _status(one)) for status in STATUSES):
                    raise UserError(f"there is no status '{one}'; there are {', '.join(STATUSES)}")

    def __str__(self) -> str:
        return f"{self.key}{self.operator}{self.text}"

    def matches(self, run: StoredRun) -> bool:
        """Return whether a run is meant."""
        if self.key in ("since", "until"):
            return run.when >= _moment(self) if self.key == "since" else run.when < _moment(self)
        if self.operator in ORDER:
            wanted = value(self.text)
            return any(_is_number(own) and ORDER[self.operator](own, wanted) for own in values_of(run, self.key))
        found = values_of(run, self.key)
        equal = any(_equals(self.key, own, text) for own in found for text in self.text.split("|"))
        return bool(found) and equal is (self.operator == "=")


def values_of(run: StoredRun, key: str) -> list[Any]:
    """Return what a run has by a key: the one thing of that name, or the parameters of that name of all its terms."""
    key = plain(key)
    if key in ("id", "status"):
        return [getattr(run, key)]
    for told in (run.measured,) if key in _MEASURED else (run.settings,):
        if own := [one for name, one in told.items() if plain(name) == key]:
            return own
    return [one for name, one in run.settings.items() if plain(name).partition(":")[2] == key]


_MEASURED = {plain(name) for name in MEASURED}
_FIELDS = {plain(field.name) for field in fields(RunSpec)}


def _is_number(of: Any) -> bool:
    return isinstance(of, int | float) and not isinstance(of, bool)


def _status(text: str) -> str:
    text = plain(text).replace("_", " ")
    return FINISHED if text == "done" else text


def _equals(key: str, own: Any, text: str) -> bool:
    if key == "status":
        return fnmatchcase(own, _status(text))
    if _is_number(own) and _is_number(wanted := value(text)):
        return bool(own == wanted)
    if isinstance(own, bool):
        return str(own).lower() == {"yes": "true", "no": "false"}.get(text.lower(), text.lower())
    if key in TERMS and contains(own, text):
        return True
    if key in TERMS and ":" not in text:
        own = (
            "+".join(part.partition(":")[0] for part in own.split("+")) if key == "strategy" else own.partition(":")[0]
        )
    heads = {str(own).casefold(), str(own).partition("(")[0].casefold()}  # mlp is mlp(width=512), too
    return any(fnmatchcase(head, text.casefold()) for head in heads)


def _moment(of: Filter) -> datetime:
    """When ``since`` begins, or ``until`` ends, which a day is part of as a whole."""
    try:
        if age := AGE.fullmatch(of.text.lower()):
            return datetime.now().astimezone() - timedelta(hours=float(age[1]) * HOURS[age[2]])
        moment = datetime.fromisoformat(of.text)
        if of.key == "until" and re.fullmatch(r"[\d-]+|\d{4}-?W.*", of.text):
            moment += timedelta(days=1)
        return moment.astimezone()
    except (ValueError, OverflowError):  # also of years that no calendar here has
        raise UserError(f"'{of.text}' is no time; write {of.key}=2026-10-01, 2026-10-01T18:00, 12h, 7d or 4w") from None


@dataclass(frozen=True)
class Words:
    """What the words of a command mean: folders, beginnings of ids, filters."""

    folders: tuple[Path, ...]
    ids: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()

    @property
    def chosen(self) -> bool:
        """Whether anything is said of which runs are meant."""
        return bool(self.ids or self.filters)

    @property
    def told(self) -> str:
        """What runs are meant, for a sentence: " with strategy=ewc* and lr<1e-3", or ""."""
        return f" with {' and '.join(map(str, self.filters))}" if self.filters else ""


def read(words: Iterable[str], *, ids: bool = True, default: Path = DEFAULT_FOLDER) -> Words:
    """Tell apart what words mean; UserError for one that means nothing, and for a folder that is not there.

    What is a folder is one, whatever its name; ``ids``: a word of four hexadecimal digits and more may be a run's id.
    """
    folders, found, filters = [], [], []
    for word in words:
        if _is_folder(word):
            folders.append(Path(word))
        elif WORD.fullmatch(word):
            filters.append(Filter.parse(word))
        elif ids and RUN_ID.fullmatch(word):
            found.append(word)
        elif plain(word) in _FIELDS | _MEASURED | {*OWN}:
            raise UserError(f"'{word}' is no folder; of a filter, < and > must be quoted: '{word}<1'")
        else:
            raise UserError(
                f"There is no folder {word}; python -m cl_nvrm.run makes runs, --out says where. "
                f"A filter is KEY=VALUE, as strategy=ewc*{', an id hexadecimal' * ids}"
            )
    if not folders and not default.is_dir():
        raise UserError(f"There is no folder {default}; python -m cl_nvrm.run makes runs, --out says where")
    return Words(tuple(dict.fromkeys(folders)) or (default,), tuple(found), tuple(filters))


def _is_folder(word: str) -> bool:
    try:
        return Path(word).is_dir()
    except (OSError, ValueError):  # too long for a name, or no text a name can have
        return False


def select(words: Words) -> list[StoredRun]:
    """Return the runs that are meant, folder by folder in the order of ids.

    UserError for an id that no run or more than one begins with, and for a filter of something that no run has.
    """
    return narrow([run for folder in words.folders for run in contents(Store(folder))], words)


def narrow(runs: Sequence[StoredRun], words: Words) -> list[StoredRun]:
    """Return those of some runs that words mean; UserError as ``select``."""
    chosen = list(runs)
    if words.ids:
        known = {run.id for run in runs}
        meant = {_whole(begun, known, words) for begun in words.ids}
        chosen = [run for run in runs if run.id in meant]
    for one in words.filters:
        _check_known(one, runs)
    return [run for run in chosen if all(one.matches(run) for one in words.filters)]


def _whole(begun: str, known: Iterable[str], words: Words) -> str:
    found = sorted(run_id for run_id in known if run_id.startswith(begun))
    if len(found) == 1 or begun in found:
        return begun if begun in found else found[0]
    where = ", ".join(map(str, words.folders))
    if not found:
        raise UserError(f"There is no run {begun} in {where}")
    raise UserError(f"{len(found)} runs begin with {begun}: {', '.join(found[:4])}{', …' * (len(found) > 4)}")


def _check_known(one: Filter, runs: Sequence[StoredRun]) -> None:
    """Refuse a key that nothing here has; fields of specs and metrics are known although no run may have them."""
    if one.key in _FIELDS | _MEASURED | {*OWN}:
        return
    names = {name for run in runs for name in run.settings if ":" in name}
    known = {plain(name): name for name in names} | {plain(name.partition(":")[2]): name for name in names}
    if one.key in known:
        return
    near = difflib.get_close_matches(one.key, [*known, *_FIELDS, *_MEASURED, *OWN], n=2)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    groups = (
        [*OWN, *(field.name for field in fields(RunSpec))],
        map(plain, MEASURED),
        sorted({name.partition(":")[2] for name in names}),
    )
    told = "; ".join(filter(None, map(", ".join, groups)))
    raise UserError(f"No run here has '{one.key}'. {hint}There are {told}")
