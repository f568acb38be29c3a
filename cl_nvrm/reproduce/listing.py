"""Listing: which targets there are, by name; every file in ``targets/`` with a ``TARGET`` is one."""

import difflib
import math
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import get_args

from cl_nvrm.errors import UserError
from cl_nvrm.reproduce import targets
from cl_nvrm.reproduce.definition import SCORES, Row, Spread, Target

OTHERS = (
    "--trials", "--seed", "--data", "--data-dir", "--out", "--tune", "--fresh", "--list", "--help", "--dry-run",
    "--jobs", "--device", "--quiet", "--format", "--version", "--no-plots", "--backend", "--scheduler",
)  # fmt: skip


def names() -> list[str]:
    """Return the names of all targets, importing none of them."""
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(targets.__path__) if m.name[0] != "_")


def target(name: str) -> Target:
    """Return a target by its name; UserError if there is none, if its file is none or broken, or if there are two."""
    known = names()
    wanted = name.replace("_", "-")
    if wanted not in known:
        near = difflib.get_close_matches(wanted, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise UserError(f"No target '{name}'; {hint}")
    claims = [
        (place, module.name)
        for place in targets.__path__
        for module in pkgutil.iter_modules([place])
        if module.name.replace("_", "-") == wanted
    ]
    if len(claims) > 1:
        raise UserError(f"target {wanted} is claimed more than once: {', '.join(place for place, _ in claims)}")
    try:
        found = getattr(import_module(f"{targets.__name__}.{claims[0][1]}"), "TARGET", None)
        if not isinstance(found, Target):
            raise UserError(f"target {wanted}: its file needs TARGET = Target(…)")
        _check(wanted, found)
    except UserError:
        raise
    except (Exception, SystemExit) as problem:
        raise UserError(f"target {wanted}: {type(problem).__name__}: {problem}") from problem
    return found


def about(name: str) -> str:
    """Return a line about a target, or what is wrong with its file."""
    try:
        return target(name).about
    except UserError as problem:
        return str(problem)


def _check(name: str, found: Target) -> None:
    """UserError with what is wrong with a target, as far as can be told without planning its runs."""
    known = [row.name for row in found.rows]
    if not known:
        raise UserError(f"target {name}: it has no rows")
    named = [("an ordering", n) for order in found.orderings for n in (order.higher, order.lower)]
    named += [("explains", row.explains) for row in found.rows if row.explains]
    wrong = [f"{who} names '{row}', which no row is called" for who, row in named if row not in known]
    wrong += [f"two rows are called '{row}'" for row in known if known.count(row) > 1]
    wrong += [] if found.spread in get_args(Spread) else [f"spread is sd or sem, not {found.spread!r}"]
    wrong += [f"'{row.name}': {reason}" for row in found.rows for reason in _wrong_with(row)]
    wrong += [] if found.runs >= 1 else ["it needs a number of runs of at least 1"]
    wrong += _wrong_words(found.common)
    if wrong:
        raise UserError(f"target {name}: {wrong[0]}")


def _wrong_with(row: Row) -> Iterator[str]:
    for text in (row.name, row.words, row.score, row.explains, row.note):
        if not isinstance(text, str):
            yield f"{text!r} is no text"
            return
    if row.score not in SCORES:
        yield f"there is no score {row.score!r}; there are {', '.join(SCORES)}"
    for number in (row.mean, *([] if row.spread is None else [row.spread])):
        if not isinstance(number, int | float) or not math.isfinite(number):
            yield f"{number!r} is no published number"
            return
    if (row.spread or 0) < 0 or row.seeds < 1 or row.runs < 0:
        yield "spread and runs must be at least 0, and seeds at least 1"
    if row.explains == row.name:
        yield "it cannot explain itself"
    yield from _wrong_words(row.words)


def _wrong_words(words: str) -> Iterator[str]:
    """Flags that are for the target to say, or that train nothing."""
    for word in words.split():
        flag = word.partition("=")[0]
        if flag in OTHERS or flag == "-h":
            yield f"{flag} is not for the words of a row"
