"""What annotations say of a parameter's values, however they are written."""

import sys

import pytest

from cl_nvrm.errors import UserError
from cl_nvrm.spec import catalog, grammar

LATER = "from __future__ import annotations\n"
CHECKED = "from typing import TYPE_CHECKING, Literal\n\nif TYPE_CHECKING:\n    from somewhere import Missing\n\n"


def parse(text):
    return grammar.parse_sum(text)[0].settings["kind"]


CHOICES = {
    "as texts": LATER + "from typing import Literal\n\n\ndef plugin(*, kind: Literal['x', 'y'] = 'x'): ...\n",
    "return type for checkers alone": LATER
    + CHECKED
    + "\ndef plugin(*, kind: Literal['x', 'y'] = 'x') -> Missing: ...\n",
    "quoted": CHECKED + "\ndef plugin(*, kind: \"Literal['x', 'y']\" = 'x') -> 'Missing': ...\n",
    "quoted and later": LATER + CHECKED + "\ndef plugin(*, kind: \"Literal['x', 'y']\" = 'x') -> Missing: ...\n",
    "another parameter's name is missing": LATER
    + CHECKED
    + "\ndef plugin(*, other: Missing = 1.0, kind: Literal['x', 'y'] = 'x'): ...\n",
    "another parameter's annotation is no expression": "from typing import Literal\n\n\n"
    "def plugin(*, other: 'in (0, 1]' = 1.0, kind: Literal['x', 'y'] = 'x'): ...\n",
    "Literal for checkers alone": LATER
    + "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from typing import Literal\n\n\n"
    "def plugin(*, kind: Literal['x', 'y'] = 'x'): ...\n",
    "optional": "from typing import Literal, Optional\n\n\n"
    "def plugin(*, kind: Optional[Literal['x', 'y']] = 'x'): ...\n",
    "or None": LATER + "from typing import Literal\n\n\ndef plugin(*, kind: Literal['x', 'y'] | None = 'x'): ...\n",
    "a union": "from typing import Literal\n\n\ndef plugin(*, kind: Literal['x'] | Literal['y'] = 'x'): ...\n",
    "a forward reference within": "from typing import Literal, Optional\n\nKind = Literal['x', 'y']\n\n\n"
    "def plugin(*, kind: Optional['Kind'] = 'x'): ...\n",
    "annotated": "from typing import Annotated, Literal\n\n\n"
    "def plugin(*, kind: Annotated[Literal['x', 'y'], 'the kind'] = 'x'): ...\n",
    "an alias": LATER
    + "from typing import Literal\n\nKind = Literal['x', 'y']\n\n\ndef plugin(*, kind: Kind = 'x'): ...\n",
    "a new-style alias": "from typing import Literal, Optional\nfrom typing_extensions import TypeAliasType\n\n"
    "Kind = TypeAliasType('Kind', Literal['x', 'y'])\n\n\ndef plugin(*, kind: Optional[Kind] = 'x'): ...\n",
    "behind a decorator": LATER
    + "from functools import wraps\nfrom typing import Literal\n\n\n"
    + "def same(f):\n    @wraps(f)\n    def call(*a, **k):\n        return f(*a, **k)\n    return call\n\n\n"
    + "@same\ndef plugin(*, kind: Literal['x', 'y'] = 'x'): ...\n",
}


@pytest.mark.parametrize("text", CHOICES.values(), ids=CHOICES.keys())
def test_choices_are_kept(plug_in, text):
    plug_in("strategies/later.py", text)
    assert parse("later:kind=y") == "y"
    with pytest.raises(UserError, match="'kind' of 'later' must be one of x, y, got 'zzz'"):
        parse("later:kind=zzz")


@pytest.mark.parametrize(
    ("kind", "function", "positional"),
    [
        ("benchmarks", "benchmark", ""),
        ("models", "model", "shape, classes, "),
        ("optimizers", "optimizer", "params, "),
        ("schedules", "schedule", ""),
    ],
)
def test_so_are_those_of_every_kind(plug_in, kind, function, positional):
    plug_in(
        f"{kind}/later.py",
        f"{LATER}{CHECKED}\ndef {function}({positional}*, kind: Literal['x'] = 'x') -> Missing: ...\n",
    )
    with pytest.raises(UserError, match="must be one of x, got 'zzz'"):
        grammar.parse(kind, "later:kind=zzz")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement is Python 3.12's")
def test_a_type_statement_is_an_alias(plug_in):
    plug_in(
        "strategies/later.py",
        "type Kind = Literal['x']\nfrom typing import Literal\n\n\ndef plugin(*, kind: Kind = 'x'): ...\n",
    )
    with pytest.raises(UserError, match="must be one of x, got 'zzz'"):
        parse("later:kind=zzz")


@pytest.mark.parametrize(
    ("values", "written", "value"),
    [
        ("1, 2", "2", 2),
        ("True, False", "false", False),
        ("False", "FALSE", False),
        ("0.5, 1.0", "1", 1.0),
        ("'auto', 8", "8", 8),
        ("'auto', 8", "auto", "auto"),
        ("False, 'auto'", "auto", "auto"),
        ("'a', None", "a", "a"),
    ],
)
def test_a_choice_keeps_its_type_and_its_text_can_be_read_again(plug_in, values, written, value):
    default = values.partition(",")[0]
    plug_in(
        "strategies/later.py",
        f"from typing import Literal\n\n\ndef plugin(*, kind: Literal[{values}] = {default}): ...\n",
    )
    found = parse(f"later:kind={written}")
    assert found == value and type(found) is type(value)
    assert grammar.canonical(grammar.parse_sum(f"later:kind={grammar.write_value(value)}")).endswith(
        f"kind={grammar.write_value(value)}"
    )
    with pytest.raises(UserError, match="must be one of"):
        parse("later:kind=7")


@pytest.mark.parametrize(
    "annotation",
    [
        "Annotated[str, 'models']",
        "Annotated[str, 'the network', 'models']",
        "Optional[Annotated[str, 'models']]",
        "Annotated[str | None, 'models']",
    ],
)
@pytest.mark.parametrize("first", ["", LATER], ids=["now", "later"])
def test_a_network_is_spelled_out(plug_in, annotation, first):
    plug_in(
        "benchmarks/later.py",
        first
        + "from typing import TYPE_CHECKING, Annotated, Optional\n\n"
        + "if TYPE_CHECKING:\n    from somewhere import Missing\n"
        + f"\n\ndef benchmark(*, kind: {annotation} = 'mlp', seed: int) -> 'Missing': ...\n",
    )
    spelled = "mlp(width=8,depth=2)"
    assert grammar.parse("benchmarks", "later:kind=mlp(width=8)").settings["kind"] == spelled
    with pytest.raises(UserError, match="No 'zzz' in models/"):
        grammar.parse("benchmarks", "later:kind=zzz")


@pytest.mark.parametrize(
    ("annotation", "says"),
    [
        ("t.Literal['x', 'y']", "'kind' of 'later' in strategies/: the names in .* must be imported when it runs"),
        ("Literal['y', 'z']", "'kind' of 'later' in strategies/ needs a default that is one of y, z"),
    ],
)
def test_choices_that_cannot_be_told_are_said(plug_in, annotation, says):
    plug_in(
        "strategies/later.py",
        f"{LATER}from typing import TYPE_CHECKING, Literal\n\nif TYPE_CHECKING:\n    import typing as t\n\n\n"
        f"def plugin(*, kind: {annotation} = 'x'): ...\n",
    )
    with pytest.raises(UserError, match=says):
        catalog.maker("strategies", "later")
