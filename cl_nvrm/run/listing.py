"""Listing: what there is of a kind, with every parameter, as ``--list`` and ``cl_nvrm.strategies()`` show it."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from cl_nvrm.errors import UserError
from cl_nvrm.spec import annotations, catalog, grammar


@dataclass(frozen=True)
class Parameter:
    """A parameter of an entry: its default, the type of its values, and which there are, if not all of the type."""

    default: Any
    type: str
    choices: tuple[Any, ...] = ()

    def __str__(self) -> str:
        allowed = ", ".join(map(grammar.write_value, self.choices)) or self.type
        return f"{grammar.write_value(self.default)}  ({allowed})"


@dataclass(frozen=True)
class Entry:
    """A name of the catalog: what it is, in a line, and its parameters by name."""

    summary: str
    parameters: dict[str, Parameter]


class Listing(dict[str, Entry]):
    """The entries of a kind by name; printed, a line each with its parameters below, and a table in a notebook."""

    def __str__(self) -> str:
        return "\n".join(
            line
            for name, entry in self.items()
            for line in (f"{name}: {entry.summary}", *(f"    {key} = {p}" for key, p in entry.parameters.items()))
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = (
            f"<tr><td>{_cell([name])}</td><td>{_cell([entry.summary])}</td>"
            f"<td>{_cell([f'{key} = {p}' for key, p in entry.parameters.items()])}</td></tr>"
            for name, entry in self.items()
        )
        head = "<thead><tr><th>name</th><th>what it is</th><th>parameters</th></tr></thead>"
        return f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"


def _cell(lines: Sequence[str]) -> str:
    return "<br>".join(map(escape, lines))


def listing(kind: str) -> Listing:
    """Return what there is of a kind; of a file that is broken, what is wrong with it in the place of a summary."""
    found = Listing()
    for name in catalog.names(kind):
        try:
            made = catalog.maker(kind, name)
        except UserError as problem:  # one broken file does not hide the others
            found[name] = Entry(str(problem), {})
            continue
        known = catalog.parameters(made).items()
        parameters = {
            key: Parameter(p.default, type(p.default).__name__, annotations.choices(p.annotation)) for key, p in known
        }
        found[name] = Entry(catalog.summary(made), parameters)
    return found
