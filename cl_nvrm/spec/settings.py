"""Settings: what a spec says, by name, read from its texts alone, so that no plug-in need be here or be imported."""

import re
from collections.abc import Mapping
from typing import Any

from cl_nvrm.spec.grammar import COMMA, PLUS, Value, family

TERMS = ("strategy", "benchmark", "optimizer", "schedule")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
NESTED = re.compile(r"([A-Za-z][\w-]*)\((.*)\)")

Settings = dict[str, Value]


def terms(text: str) -> list[tuple[str, Settings]]:
    """Return the names of a sum with their parameters.

    >>> terms("ewc:lambda=100,fisher=sample+nvrm")
    [('ewc', {'lambda': 100, 'fisher': 'sample'}), ('nvrm', {})]
    """
    found = []
    for part in PLUS.split(text):
        name, _, rest = part.partition(":")
        pairs = (assignment.partition("=")[::2] for assignment in COMMA.split(rest) if "=" in assignment)
        found.append((name.strip(), {key.strip(): value(text.strip()) for key, text in pairs}))
    return found


def value(text: str) -> Value:
    """Return the value a text stands for: true or false, a number, or itself."""
    if text in ("true", "false"):
        return text == "true"
    if NUMBER.fullmatch(text):
        return float(text) if set(text) & set(".eE") else int(text)
    return text


def settings(spec: Mapping[str, Any]) -> Settings:
    """Return all settings of a spec, given as its fields: these, and each parameter as ``name:parameter``.

    A parameter that is a name with parameters of its own gives these, too, by that name. Fields may be missing.

    >>> told = settings({"strategy": "ewc:lambda=100", "benchmark": "toy:model=mlp(width=8)", "seed": 3})
    >>> told["seed"], told["ewc:lambda"], told["toy:model"], told["mlp:width"]
    (3, 100, 'mlp(width=8)', 8)
    """
    found: Settings = dict(spec)
    for field in TERMS:
        for name, parameters in terms(str(spec.get(field, ""))):
            for key, own in parameters.items():
                found.setdefault(f"{name}:{key}", own)
                if inner := NESTED.fullmatch(str(own)):
                    for other, nested in terms(f"{inner[1]}:{inner[2]}")[0][1].items():
                        found.setdefault(f"{inner[1]}:{other}", nested)
    return found


def contains(text: str, wanted: str) -> bool:
    """Return whether a sum is the wanted one: the same names, and the parameters that ``wanted`` gives have its values.

    >>> contains("ewc:lambda=100,fisher=sample+nvrm:variability=0.01", "nvrm+ewc:lambda=100")
    True
    """
    if family(text) == family(wanted) and ":" not in wanted:
        return True
    has, asked = (dict(terms(each)) for each in (text, wanted))
    return has.keys() == asked.keys() and all(own.items() <= has[name].items() for name, own in asked.items())
