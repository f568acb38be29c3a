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
    module = wanted.replace("-", "_")
    claims = [place for place in targets.__path__ if any(m.name == module for m in pkgutil.iter_modules([place]))]
    if len(claims) > 1:
        raise UserError(f"target {wanted} is claimed more than once: {', '.join(claims)}")
    try:
        found = getattr(import_module(f"{targets.__name__}.{module}"), "TARGET", None)
    except Exception as problem:
        raise UserError(f"target {wanted}: {type(problem).__name__}: {problem}") from problem
    if not isinstance(found, Target):
        raise UserError(f"target {wanted}: its file needs TARGET = Target(…)")
    _check(wanted, found)
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
    named = [("an ordering", n) for order in found.orderings for n in (order.higher, order.lower)]
    named += [("explains", row.explains) for row in found.rows if row.explains]
    wrong = [f"{who} names '{row}', which no row is called" for who, row in named if row not in known]
    wrong += [f"two rows are called '{row}'" for row in known if known.count(row) > 1]
    wrong += [] if found.spread in get_args(Spread) else [f"spread is sd or sem, not {found.spread!r}"]
    wrong += [] if known else ["it has no rows"]
    wrong += [f"'{row.name}': {reason}" for row in found.rows for reason in _wrong_with(row)]
    if wrong:
        raise UserError(f"target {name}: {wrong[0]}")


def _wrong_with(row: Row) -> Iterator[str]:
    if row.score not in SCORES:
        yield f"there is no score {row.score!r}; there are {', '.join(SCORES)}"
    for number in (row.mean, *([] if row.spread is None else [row.spread])):
        if not math.isfinite(number):
            yield f"{number} is no published number"
    if row.seeds < 1 or row.runs < 0:
        yield "seeds must be at least 1, and runs at least 0"
    if "--trials" in row.words or "--seed" in row.words.split():
        yield "the target says how many seeds, not the words"
