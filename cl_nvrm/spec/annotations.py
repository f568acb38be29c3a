"""What the annotations of a function's parameters say of their values: which there are, and what a text stands for.

``Literal["x", "y"]`` gives choices, and ``Annotated[str, "models"]`` and ``Annotated[bool, "later"]`` marks, also
within ``Optional``, ``X | None``, an alias, or a text, as ``from __future__ import annotations`` leaves them.
"""

import inspect
import typing
from collections.abc import Callable
from contextlib import suppress
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Optional, Union, get_args, get_origin, get_type_hints

LATER = "later"  # the mark of a parameter that came after runs had been stored: at its default it is left unsaid

# What annotations are made of, for a file that imports these names for type checkers only.
NAMES = {"typing": typing, "Annotated": Annotated, "Any": Any, "Literal": Literal, "Optional": Optional, "Union": Union}


def evaluated(made: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return a function's parameters with their annotations evaluated, each by itself.

    One that cannot be evaluated, since a name in it is missing at run time, stays the text it is.
    """
    names = NAMES | getattr(inspect.unwrap(made), "__globals__", {})
    return {
        name: p if isinstance(p.annotation, type) else p.replace(annotation=_evaluate(p.annotation, names))
        for name, p in inspect.signature(made).parameters.items()
    }


def _evaluate(annotation: Any, names: dict[str, Any]) -> Any:
    def bearer() -> None: ...

    bearer.__annotations__ = {"it": annotation}
    with suppress(Exception):  # an annotation may be any expression, and do anything
        found = get_type_hints(bearer, names, include_extras=True)["it"]
        choices(found)  # an alias is evaluated when it is asked
        return found
    return annotation


def choices(annotation: Any) -> tuple[bool | int | float | str, ...]:
    """Return the values that an annotation allows; none if it allows any of a type."""
    annotation = getattr(annotation, "__value__", annotation)  # of ``type Kind = …``
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return tuple(part for part in parts if isinstance(part, bool | int | float | str))
    if get_origin(annotation) is Annotated:
        return choices(parts[0])
    if get_origin(annotation) in (Union, UnionType):
        allowed = [choices(part) for part in parts if part is not NoneType]
        return tuple(choice for part in allowed for choice in part) if all(allowed) else ()
    return ()


def marks(annotation: Any) -> tuple[str, ...]:
    """Return the texts that an annotation bears beside its type."""
    annotation = getattr(annotation, "__value__", annotation)
    parts = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return (*marks(parts[0]), *(part for part in parts[1:] if isinstance(part, str)))
    if get_origin(annotation) in (Union, UnionType):
        return tuple(mark for part in parts for mark in marks(part))
    return ()
