"""Listing: which targets there are, by name; every file in ``targets/`` with a ``TARGET`` is one."""

import difflib
import pkgutil
from importlib import import_module

from cl_nvrm.errors import UserError
from cl_nvrm.reproduce import targets
from cl_nvrm.reproduce.definition import Target


def names() -> list[str]:
    """Return the names of all targets, importing none of them."""
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(targets.__path__) if m.name[0] != "_")


def target(name: str) -> Target:
    """Return a target by its name; UserError if there is none, or if its file is none or broken."""
    known = names()
    wanted = name.replace("_", "-")
    if wanted not in known:
        near = difflib.get_close_matches(wanted, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise UserError(f"No target '{name}'; {hint}")
    try:
        found = getattr(import_module(f"{targets.__name__}.{wanted.replace('-', '_')}"), "TARGET", None)
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
    rows = [row.name for row in found.rows]
    wrong = [row for row in rows if rows.count(row) > 1]
    asked = [n for order in found.orderings for n in (order.higher, order.lower)]
    asked += [row.explains for row in found.rows if row.explains]
    wrong += [row for row in asked if row not in rows]
    if wrong:
        raise UserError(f"target {name}: '{wrong[0]}' is there more than once, or not at all")
