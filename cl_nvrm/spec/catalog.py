"""What strategies, benchmarks, optimizers and models there are, by name.

A file is an entry: its name is the entry's name, and the one function of its kind's contract makes the thing. The
function's signature is the schema: keyword-only arguments with a default are the parameters, those without one (such as
``seed``) are filled in by the run. Other distributions join through entry points of the kind's group. Names come from
listing files, so nothing heavy is imported until an entry is used.
"""

import difflib
import importlib
import inspect
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from cl_nvrm.errors import UserError
from cl_nvrm.spec import folders
from cl_nvrm.spec.kinds import KINDS, Maker, check_maker, needs_data, parameters

__all__ = ["KINDS", "Maker", "maker", "names", "needs_data", "parameters", "recipe", "search", "summary"]


def names(kind: str) -> list[str]:
    """Return the sorted names of a kind, from its folders and from entry points, importing none of them."""
    return sorted({*folders.files(kind), *_entry_points(kind)})


def maker(kind: str, name: str) -> Maker:
    """Return the function that makes the entry of that name; ``-`` and ``_`` are the same in names.

    UserError if there is none (with the nearest names), if two claim the name, or if its module breaks the contract.
    """
    name = name.replace("_", "-")
    claims: list[Path | EntryPoint] = [*folders.named(kind, name), *_entry_points(kind).get(name, [])]
    if not claims:
        near = difflib.get_close_matches(name, names(kind), n=2)
        hint = f"Did you mean {' or '.join(repr(n) for n in near)}?" if near else f"There are {', '.join(names(kind))}."
        raise UserError(f"No '{name}' in {kind}/. {folders.why_not(kind, name)}{hint}")
    if len(claims) > 1:
        raise UserError(f"'{name}' in {kind}/ is claimed more than once: {', '.join(str(c) for c in claims)}")
    try:
        made = _load(claims[0], KINDS[kind].package, KINDS[kind].function)
    except (Exception, SystemExit) as problem:  # whatever a stranger's file does at import
        raise UserError(f"'{name}' in {kind}/ cannot be imported from {claims[0]} ({one_line(problem)})") from problem
    if made is None:
        raise UserError(f"'{name}' in {kind}/ has no function {KINDS[kind].function}(…)")
    check_maker(kind, name, made)
    return made


def one_line(problem: BaseException) -> str:
    """Return an exception's type and text in one line."""
    return " ".join(f"{type(problem).__name__}: {problem}".split())


def search(made: Maker) -> dict[str, tuple[float, float]]:
    """Return the ranges worth searching, by parameter: what the maker's module says in SEARCH."""
    said = getattr(inspect.getmodule(made), "SEARCH", {})
    try:
        found = {key: (low, high) for key, (low, high) in said.items()}
        wrong = [key for key, (low, high) in found.items() if key not in parameters(made) or not 0 < low < high]
    except (AttributeError, TypeError, ValueError):
        raise UserError(f"SEARCH of {made.__module__} must be as {{'strength': (0.01, 100.0)}}, not {said!r}") from None
    if wrong:
        raise UserError(f"SEARCH of {made.__module__}: '{wrong[0]}' must be a parameter with a range 0 < low < high")
    return found


def recipe(made: Maker, experiment: str) -> dict[str, Any]:
    """Return how a network wants to be trained in a kind of experiment, where it differs from others.

    That is what its file says in ``RECIPES[experiment]``: fields of ``benchmark.Recipe``, by name.
    """
    said = getattr(inspect.getmodule(made), "RECIPES", {})
    try:
        return dict(said.get(experiment, {}))
    except (AttributeError, TypeError, ValueError):
        raise UserError(
            f"RECIPES of {made.__module__} must be as {{'{experiment}': {{'lr': 0.1}}}}, not {said!r}"
        ) from None


def summary(made: Maker) -> str:
    """Return the first line of the docstring of the maker's module."""
    return (inspect.getdoc(inspect.getmodule(made)) or "").partition("\n")[0]


def _load(claim: Path | EntryPoint, package: str, function: str) -> Maker | None:
    if isinstance(claim, Path):
        return getattr(_module(claim, package), function, None)
    loaded = claim.load()  # perhaps a class of the backport's, which takes part as soon as anybody imports it
    return loaded if inspect.isroutine(loaded) else getattr(loaded, function, None)


def _module(file: Path, package: str) -> ModuleType:
    """Import a file as the module of its name in a package, which is found in all folders of the package's kinds."""
    name = f"{package}.{file.stem}"
    known = sys.modules.get(name)
    if known is None or not _is_of(known, file):
        places = folders.places(package)
        if known and Path(known.__file__ or "").parent.resolve() not in places:
            del sys.modules[name]  # of a folder that is named no longer
        importlib.import_module(package).__path__[:] = map(str, places)
        importlib.invalidate_caches()  # the file may be younger than Python's list of its folder
    module = importlib.import_module(name)
    if not _is_of(module, file):
        raise ImportError(f"Python finds {module.__file__} by that name; rename the file")
    return module


def _is_of(module: ModuleType, file: Path) -> bool:
    origin = module.__file__ or ""
    return origin == str(file) or Path(origin).resolve() == file.resolve()


def _entry_points(kind: str) -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in _all_entry_points(kind, tuple(sys.path)):
        found.setdefault(point.name.replace("_", "-"), []).append(point)
    return found


@cache
def _all_entry_points(kind: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Read every distribution on ``path`` once: that is nearly all the time a look-up takes."""
    return tuple(entry_points(group=f"cl_nvrm.{kind}"))
