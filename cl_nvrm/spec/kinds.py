"""What a plug-in of each kind is: the function its file defines, what the run gives to it, and what it returns."""

import inspect
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from cl_nvrm.errors import UserError
from cl_nvrm.spec import annotations

Maker = Callable[..., Any]


class Kind(NamedTuple):
    """The package that holds a kind's files, the function a file must define, and its contract.

    The run gives the ``positional`` arguments (or fewer, of a benchmark) and those of ``filled`` that the function asks
    for. What it returns has all of ``attributes``; ``returns`` is what to call it.
    """

    package: str
    function: str
    positional: tuple[str, ...]
    filled: tuple[str, ...]
    returns: str
    attributes: tuple[str, ...]


KINDS = {
    "strategies": Kind("cl_nvrm.strategies", "plugin", (), ("seed",), "an Avalanche plug-in or None", ()),
    "benchmarks": Kind(
        "cl_nvrm.benchmarks", "benchmark", ("data set",), ("seed",), "a Benchmark", ("recipe", "streams", "watched")
    ),
    "optimizers": Kind(
        "cl_nvrm.optim",
        "optimizer",
        ("parameters",),
        ("lr", "weight_decay", "seed"),
        "a torch optimizer",
        ("step", "param_groups"),
    ),
    "models": Kind("cl_nvrm.models", "model", ("shape", "classes"), (), "a torch module", ("forward", "parameters")),
    "schedules": Kind("cl_nvrm.optim", "schedule", (), (), "a function of the share that is over", ("__call__",)),
}


def parameters(made: Maker) -> dict[str, inspect.Parameter]:
    """Return a maker's parameters by the name a user writes: keyword-only, with a default, no trailing underscore."""
    return {
        p.name.rstrip("_"): p
        for p in annotations.evaluated(made).values()
        if p.kind is p.KEYWORD_ONLY and p.default is not p.empty
    }


def needs_data(made: Maker) -> str | None:
    """Return the data set a benchmark asks for, the name of its positional parameter; None if it has none."""
    return next((name.replace("_", "-") for name in _positional(inspect.signature(made))), None)


def check_maker(kind: str, name: str, made: Maker) -> None:
    """Raise a UserError that says in what the function of an entry breaks its kind's contract, if it does."""
    own = f"of '{name}' in {kind}/"
    try:
        signature = inspect.signature(made)
    except (TypeError, ValueError):
        raise UserError(f"{KINDS[kind].function} {own} must be a function") from None
    positional, filled = KINDS[kind].positional, KINDS[kind].filled
    given = _positional(signature)[: len(positional)]
    for key, p in signature.parameters.items():
        if key in filled and p.default is not p.empty:
            raise UserError(f"'{key}' {own} may have no default: the run fills it in")
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and key not in (*given, *filled):
            fills = f": the run fills in {', '.join(filled)} alone" if filled else ""
            raise UserError(f"'{key}' {own} needs a default{fills}")
    arguments = given if kind == "benchmarks" else positional
    try:
        signature.bind(*arguments, **{key: None for key in filled if key in signature.parameters})
    except TypeError as problem:
        takes = f"{' and '.join(positional) or 'nothing'} by position"
        raise UserError(f"{KINDS[kind].function} {own} must take {takes} ({problem})") from None
    for key, parameter in parameters(made).items():
        _check_parameter(f"'{key}' {own}", parameter)


def _check_parameter(which: str, parameter: inspect.Parameter) -> None:
    """Refuse a default that no text stands for, or that is none of its choices, and choices that cannot be told."""
    default, annotation = parameter.default, parameter.annotation
    if type(default) not in (bool, int, float, str):
        raise UserError(f"{which} needs a default that is a bool, a number or a text")
    if isinstance(default, float) and not math.isfinite(default):
        raise UserError(f"{which} needs a finite default")
    if isinstance(default, str) and not _can_be_written(default):
        raise UserError(f"{which} needs a default that can be written in a command, not '{default}'")
    allowed = annotations.choices(annotation)
    if allowed and default not in allowed:
        raise UserError(f"{which} needs a default that is one of {', '.join(map(str, allowed))}")
    if isinstance(annotation, str) and re.search(r"\b(Literal|Annotated)\[", annotation):
        raise UserError(f"{which}: the names in '{annotation}' must be imported when it runs, not by checkers alone")


def _can_be_written(text: str) -> bool:
    """Whether the grammar reads a text as one value: no ``|``, no ``+name``, no comma outside of parentheses."""
    outside = re.sub(r"\([^()]*\)", "", text)
    return text == text.strip() != "" and not re.search(r"[,|\n]|\+\s*[A-Za-z_]", outside)


def check_made(kind: str, made: Any) -> None:
    """Raise a UserError if something that a kind's function returned is nothing of that kind."""
    if kind == "strategies":
        fits = made is None or any(name.startswith(("before_", "after_")) for name in dir(made))
    else:
        fits = all(hasattr(made, name) for name in KINDS[kind].attributes)
    if not fits or isinstance(made, type):
        got = f"the class {made.__name__}" if isinstance(made, type) else type(made).__name__
        raise UserError(f"{KINDS[kind].function}(…) must return {KINDS[kind].returns}, not {got}")


def _positional(signature: inspect.Signature) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [name for name, p in signature.parameters.items() if p.kind in kinds]
