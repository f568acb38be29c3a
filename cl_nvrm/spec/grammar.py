"""The one grammar for strategies, benchmarks and optimizers: ``name[:key=value,…]``, joined by ``+``.

``+`` is commutative, ``naive`` is its neutral element, a name occurs once. The canonical text sorts the names and
spells out every parameter, so that two texts that mean the same become the same run. ``key=a|b|c`` stands for three
sums (``grid``).

A parameter annotated ``Annotated[str, "models"]`` is itself a name of that kind, its own parameters in parentheses:
``model=mlp(width=512,depth=2)``. One annotated ``Annotated[str, "file"]`` may name a file; the canonical text then has
a digest of what is in it, ``noise=matrix.txt@1a2b3c4d``, since a run is what its spec says. One annotated
``Annotated[bool, "later"]`` came after runs had been stored: at its default the canonical text leaves it out, so that
these keep their ids.
"""

import hashlib
import inspect
import itertools
import math
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cl_nvrm.errors import LARGEST, UserError
from cl_nvrm.spec import catalog
from cl_nvrm.spec.annotations import LATER, choices, marks
from cl_nvrm.spec.kinds import check_made

NEUTRAL = "naive"
PLUS = re.compile(r"\+(?=\s*[A-Za-z_])")  # not the one of 1e+3
COMMA = re.compile(r",(?![^()]*\))")  # not within parentheses
Value = bool | int | float | str


@dataclass(frozen=True)
class Term:
    """One name of the catalog with a value for each of its parameters."""

    kind: str
    name: str
    settings: dict[str, Value]

    def __str__(self) -> str:
        known = catalog.parameters(catalog.maker(self.kind, self.name))
        text = ",".join(
            f"{key}={write_value(value)}"
            for key, value in self.settings.items()
            if LATER not in marks(known[key].annotation) or value != _default(known[key])
        )
        return f"{self.name}:{text}" if text else self.name

    def changed(self) -> dict[str, Value]:
        """Return the settings that differ from their defaults."""
        known = catalog.parameters(catalog.maker(self.kind, self.name))
        return {key: value for key, value in self.settings.items() if value != _default(known[key])}

    def describe(self, key: str) -> str:
        """Return ``key=value`` for people to read; of a value that is itself a name, without what is its default."""
        parameter, value = catalog.parameters(catalog.maker(self.kind, self.name))[key], self.settings[key]
        if (means := _meaning(parameter)) in catalog.KINDS:
            term = parse_nested(means, str(value))
            inner = ",".join(f"{k}={write_value(v)}" for k, v in term.changed().items())
            value = f"{term.name}({inner})" if inner else term.name
        return f"{key}={write_value(value)}"

    def make(self, *arguments: Any, **filled: Any) -> Any:
        """Call the maker with the settings and those of ``filled`` that it asks for; its errors name the term."""
        made = catalog.maker(self.kind, self.name)
        signature = inspect.signature(made).parameters
        keywords = {catalog.parameters(made)[key].name: value for key, value in self.settings.items()}
        keywords |= {key: value for key, value in filled.items() if key in signature and key not in keywords}
        with blame(self.name, made):
            entry = made(*arguments, **keywords)
            check_made(self.kind, entry)
        return entry


@contextmanager
def blame(name: str, made: catalog.Maker) -> Iterator[None]:
    """Turn whatever fails in an entry's code into a UserError of one line that names the entry, and its own line."""
    try:
        yield
    except (UserError, ValueError) as problem:
        code = type(problem) if isinstance(problem, UserError) else UserError
        raise code(f"{name}: {problem}") from problem
    except (Exception, SystemExit) as problem:
        frames = traceback.extract_tb(problem.__traceback__)
        file = getattr(getattr(inspect.unwrap(made), "__code__", None), "co_filename", "")
        own = [frame for frame in frames if frame.filename == file]
        last = (own or frames)[-1]
        place = f"{Path(last.filename).name}, line {last.lineno}"
        raise UserError(f"{name}: {catalog.one_line(problem)} ({place})") from problem


def parse_sum(text: str, flags: dict[str, str] | None = None) -> tuple[Term, ...]:
    """Parse a sum of strategies into its terms, in canonical order; ``flags`` as in ``parse``.

    >>> family(canonical(parse_sum("nvrm + ewc:lambda=5 + naive")))
    'ewc+nvrm'
    """
    terms = [parse("strategies", part, flags) for part in PLUS.split(text)]
    for name in {t.name for t in terms if sum(t.name == other.name for other in terms) > 1} - {NEUTRAL}:
        raise UserError(f"'{name}' occurs more than once in '{text}'; write it once")
    for flag in flags or {}:
        takers = [t.name for t in terms if flag in t.settings]
        if len(takers) > 1:
            advice = " or ".join(f"--strategy {name}:{flag}={(flags or {})[flag]}+…" for name in takers)
            raise UserError(f"--{flag} is taken by {' and '.join(takers)}; write {advice}")
    kept = {t.name: t for t in sorted(terms, key=lambda t: t.name) if t.name != NEUTRAL}
    return tuple(kept.values()) or (terms[0],)


def grid(text: str, flags: dict[str, str] | None = None) -> list[tuple[Term, ...]]:
    """Parse a sum in which values may be ``a|b|c``, here or in ``flags``: one sum for each way to choose, in order.

    >>> [short(terms) for terms in grid("l1:lambda=1|2")]
    ['l1:lambda=1', 'l1:lambda=2']
    """
    parts = []
    for part in PLUS.split(text):
        name, colon, rest = part.partition(":")
        choices = []
        for assignment in rest.split(",") if colon else []:
            key, equals, value = assignment.partition("=")
            choices.append([f"{key}{equals}{one}" for one in value.split("|")])
        parts.append([name + colon + ",".join(chosen) for chosen in itertools.product(*choices)])
    every = [dict(zip(flags or {}, values, strict=True)) for values in _ways(flags or {})]
    sums = [parse_sum("+".join(chosen), own) for own in every for chosen in itertools.product(*parts)]
    return list({canonical(terms): terms for terms in sums}.values())


def _ways(flags: dict[str, str]) -> list[tuple[str, ...]]:
    return list(itertools.product(*(value.split("|") for value in flags.values())))


def canonical(terms: tuple[Term, ...]) -> str:
    """Return the canonical text of a sum of terms."""
    return "+".join(map(str, terms))


def family(text: str) -> str:
    """Return a canonical sum without its values: ``ewc+nvrm``."""
    return "+".join(term.partition(":")[0] for term in PLUS.split(text))


def short(terms: tuple[Term, ...]) -> str:
    """Return the text with only the parameters that differ from their defaults, for people to read."""
    return "+".join(str(Term(t.kind, t.name, t.changed())) for t in terms)


def parse(kind: str, text: str, flags: dict[str, str] | None = None) -> Term:
    """Parse one ``name:key=value,…``; ``flags`` give further parameters, where the text is silent on them.

    UserError for an unknown name or parameter, a value of the wrong type, a parameter given twice.
    """
    name, _, rest = text.strip().partition(":")
    name = name.strip().replace("_", "-")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", name):
        raise UserError(f"'{text}' is not of the form name or name:key=value,key=value")
    known = catalog.parameters(catalog.maker(kind, name))
    given: dict[str, str] = {}
    for assignment in COMMA.split(rest) if rest else []:
        key, equals, value = (piece.strip() for piece in assignment.partition("="))
        key = key.replace("-", "_")
        if not (key and equals and value):
            raise UserError(f"'{assignment}' in '{text}' is not of the form key=value")
        if key not in known:
            raise UserError(f"'{name}' has no parameter '{key}'; it has {', '.join(known) or 'none'}")
        if key in given:
            raise UserError(f"'{key}' is given twice in '{text}'")
        given[key] = value
    given = {key: value for key, value in (flags or {}).items() if key in known} | given
    return Term(
        kind,
        name,
        {key: _read(name, key, given[key], p) if key in given else _default(p) for key, p in known.items()},
    )


def parse_nested(kind: str, text: str) -> Term:
    """Parse ``name`` or ``name(key=value,…)``, the value of a parameter that is itself a name of ``kind``."""
    name, bracket, rest = text.partition("(")
    if bracket and not rest.endswith(")"):
        raise UserError(f"'{text}' is not of the form name or name(key=value,key=value)")
    return parse(kind, f"{name}:{rest[:-1]}" if rest[:-1] else name)


def _meaning(parameter: inspect.Parameter) -> str:
    """What a text stands for: a kind of the catalog, "file", or nothing but itself."""
    return next((mark for mark in marks(parameter.annotation) if mark in (*catalog.KINDS, "file")), "")


def _default(parameter: inspect.Parameter) -> Value:
    default: Value = parameter.default
    return _canonical_value(default, parameter) if isinstance(default, str) else default


def _canonical_value(text: str, parameter: inspect.Parameter) -> str:
    """The canonical text of a value that is a name, or a file."""
    means = _meaning(parameter)
    if means in catalog.KINDS:
        term = parse_nested(means, text)
        return str(term).replace(":", "(", 1) + ")" * (":" in str(term))
    if means == "file" and text not in _words(parameter) and _is_file(text):
        try:
            return f"{text}@{hashlib.sha256(Path(text).read_bytes()).hexdigest()[:8]}"
        except OSError as problem:
            raise UserError(f"{text} cannot be read ({problem.strerror})") from problem
    return text


def _words(parameter: inspect.Parameter) -> tuple[str, ...]:
    """The words that are no files, whatever lies in the present folder."""
    return marks(parameter.annotation)[1:]


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:  # too long for a name
        return False


def _read(name: str, key: str, text: str, parameter: inspect.Parameter) -> Value:
    """Turn a text into the type of the parameter's default, or into one of the choices that its annotation gives."""
    allowed, kind = choices(parameter.annotation), type(parameter.default)
    if kind is str and not allowed:
        return _canonical_value(text, parameter)
    with suppress(ValueError):
        if not allowed:
            return _value(kind, text)
    for choice in allowed:
        with suppress(ValueError):
            if _value(type(choice), text) == choice:
                return choice
    wanted = {bool: "true or false", int: "a whole number", float: "a finite number"}.get(kind, "a text")
    if allowed:
        wanted = f"one of {', '.join(map(write_value, allowed))}"
    raise UserError(f"'{key}' of '{name}' must be {wanted}, got '{text}'")


def _value(kind: type[Value], text: str) -> Value:
    """Read a text as a value of a type; ValueError if it is none."""
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError
        return text.lower() == "true"
    value = kind(text)
    if isinstance(value, int | float) and not (math.isfinite(value) if kind is float else abs(value) <= LARGEST):
        raise ValueError
    return value + 0.0 if isinstance(value, float) else value  # a negative zero is a zero


def write_value(value: Value) -> str:
    """Write a value the way the grammar reads it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return str(value)
