"""What strategies, benchmarks, optimizers and models there are, by name.

A file is an entry: its name is the entry's name, and the one function of its kind's contract makes the thing. The
function's signature is the schema: keyword-only arguments with a default are the parameters, those without one (such as
``seed``) are filled in by the run. Other distributions join through entry points of the kind's group. Names come from
listing files, so nothing heavy is imported until an entry is used.
"""

import difflib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from cl_nvrm.errors import UserError
from cl_nvrm.spec import annotations

# kind -> (the package that holds its files, the function a file must define)
KINDS = {
    "strategies": ("cl_nvrm.strategies", "plugin"),
    "benchmarks": ("cl_nvrm.benchmarks", "benchmark"),
    "optimizers": ("cl_nvrm.optim", "optimizer"),
    "models": ("cl_nvrm.models", "model"),
    "schedules": ("cl_nvrm.optim", "schedule"),
}
Maker = Callable[..., Any]


def names(kind: str) -> list[str]:
    """Return the sorted names of a kind, from its folders and from entry points, importing none of them."""
    return sorted({*_files(kind), *_entry_points(kind)})


def maker(kind: str, name: str) -> Maker:
    """Return the function that makes the entry of that name; ``-`` and ``_`` are the same in names.

    UserError if there is none (with the nearest names), if two claim the name, or if its module breaks the contract.
    """
    package, function = KINDS[kind]
    name = name.replace("_", "-")
    files, points = _files(kind), _entry_points(kind)
    claims: list[Path | EntryPoint] = [*files.get(name, []), *points.get(name, [])]
    if not claims:
        near = difflib.get_close_matches(name, names(kind), n=2)
        hint = f"Did you mean {' or '.join(repr(n) for n in near)}?" if near else f"There are {', '.join(names(kind))}."
        raise UserError(f"No '{name}' in {kind}/. {hint}")
    if len(claims) > 1:
        raise UserError(f"'{name}' in {kind}/ is claimed more than once: {', '.join(str(c) for c in claims)}")
    try:
        made = _load(claims[0], package, function)
    except Exception as problem:  # whatever a stranger's file does at import
        reason = f"{type(problem).__name__}: {problem}"
        raise UserError(f"'{name}' in {kind}/ cannot be imported from {claims[0]} ({reason})") from problem
    if made is None:
        raise UserError(f"'{name}' in {kind}/ has no function {function}(…)")
    for key, parameter in parameters(made).items():
        if not isinstance(parameter.default, bool | int | float | str):
            raise UserError(f"'{key}' of '{name}' in {kind}/ needs a default that is a bool, a number or a text")
        allowed, said = annotations.choices(parameter.annotation), parameter.annotation
        if allowed and parameter.default not in allowed:
            raise UserError(f"the default of '{key}' of '{name}' in {kind}/ is none of {', '.join(map(str, allowed))}")
        if isinstance(said, str) and re.search(r"\b(Literal|Annotated)\[", said):
            raise UserError(f"'{key}' of '{name}' in {kind}/: the names in '{said}' must be there when it runs")
    return made


def parameters(made: Maker) -> dict[str, inspect.Parameter]:
    """Return a maker's parameters by the name a user writes: keyword-only, with a default, no trailing underscore."""
    return {
        p.name.rstrip("_"): p
        for p in annotations.evaluated(made).values()
        if p.kind is p.KEYWORD_ONLY and p.default is not p.empty
    }


def search(made: Maker) -> dict[str, tuple[float, float]]:
    """Return the ranges worth searching, by parameter: what the maker's module says in SEARCH."""
    found = dict(getattr(inspect.getmodule(made), "SEARCH", {}))
    for key, limits in found.items():
        if key not in parameters(made) or not 0 < limits[0] < limits[1]:
            raise UserError(f"SEARCH of {made.__module__}: '{key}' must be a parameter with a range 0 < low < high")
    return found


def recipe(made: Maker, experiment: str) -> dict[str, Any]:
    """Return how a network wants to be trained in a kind of experiment, where it differs from others.

    That is what its file says in ``RECIPES[experiment]``: fields of ``benchmark.Recipe``, by name.
    """
    return dict(getattr(inspect.getmodule(made), "RECIPES", {}).get(experiment, {}))


def needs_data(made: Maker) -> str | None:
    """Return the data set a benchmark asks for, the name of its positional parameter; None if it has none."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    asked = (p.name for p in inspect.signature(made).parameters.values() if p.kind in kinds)
    return next((name.replace("_", "-") for name in asked), None)


def summary(made: Maker) -> str:
    """Return the first line of the docstring of the maker's module."""
    return (inspect.getdoc(inspect.getmodule(made)) or "").partition("\n")[0]


def _load(claim: Path | EntryPoint, package: str, function: str) -> Maker | None:
    if isinstance(claim, Path):
        return getattr(importlib.import_module(f"{package}.{claim.stem}"), function, None)
    loaded = claim.load()
    return loaded if inspect.isroutine(loaded) else getattr(loaded, function, None)


def _files(kind: str) -> dict[str, list[Path]]:
    package, function = KINDS[kind]
    found: dict[str, list[Path]] = {}
    spec = importlib.util.find_spec(package)  # finds the package without importing it
    places = (spec and spec.submodule_search_locations) or []
    for folder in dict.fromkeys(Path(place).resolve() for place in places):
        for file in sorted(folder.glob("*.py")) if folder.is_dir() else []:
            if re.search(rf"^def {function}\(", file.read_text(encoding="utf-8"), re.MULTILINE):
                found.setdefault(file.stem.replace("_", "-"), []).append(file)
    return found


def _entry_points(kind: str) -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in _all_entry_points(kind, tuple(sys.path)):
        found.setdefault(point.name.replace("_", "-"), []).append(point)
    return found


@cache
def _all_entry_points(kind: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Read every distribution on ``path`` once: that is nearly all the time a look-up takes."""
    return tuple(entry_points(group=f"cl_nvrm.{kind}"))
