"""Keywords: what is asked in Python, as words of the command line, so that both are read and checked in one place."""

import keyword
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any

from cl_nvrm.errors import UserError
from cl_nvrm.run.flags import Arguments
from cl_nvrm.spec import RunSpec
from cl_nvrm.spec.canonical import canonical
from cl_nvrm.spec.grammar import write_value

SWITCHES = ("channels_last", "compile", "keep_weights", "fresh", "quiet", "wait")
REPEATED = ("strategy", "primary", "track")
GRIDS = ("lr", "levels")
ONLY_IN_A_SHELL = ("dry_run", "format", "list", "plots")


def words(asked: Mapping[str, object]) -> list[str]:
    """Return the words of keywords; one that is None is left out.

    UserError for a value that no text stands for, several values where one is meant, and what only a shell asks.

    >>> words({"strategy": ["naive", "ewc+nvrm"], "trials": 10, "lambda_": [10, 1e3], "fresh": True, "seed": None})
    ['--strategy=naive', '--strategy=ewc+nvrm', '--trials=10', '--lambda=10|1000', '--fresh']
    """
    return [word for name, value in asked.items() if value is not None for word in _words(name, value)]


def _words(name: str, value: Any) -> list[str]:
    if name in ONLY_IN_A_SHELL:
        raise UserError(f"{name} is for the command line; here are cl_nvrm.strategies(), results.table() and the like")
    flag = f"--{name.rstrip('_').replace('_', '-')}"
    if name in SWITCHES:
        if not isinstance(value, bool):
            raise UserError(f"{name} must be True or False, got {value!r}")
        return [flag] * value if name != "wait" else ["--no-wait"] * (not value)
    single = isinstance(value, str | bytes) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0
    if not single and name in Arguments.flag_names() and name not in (*REPEATED, *GRIDS):
        raise UserError(f"{name} takes one value, got {value!r}")
    texts = [_text(name, each) for each in ([value] if single else value)]
    if not texts and name not in ("primary", "track"):
        raise UserError(f"{name} takes a value or several, and this is an empty list")
    if name in REPEATED:
        return [f"{flag}={text}" for text in texts]
    return [f"{flag}={'|'.join(texts)}"]


def _text(name: str, value: Any) -> str:
    value = value.item() if hasattr(value, "item") else value  # of numpy and torch
    if isinstance(value, bool | int | float | str):
        return write_value(value)
    if isinstance(value, PurePath):
        return str(value)
    raise UserError(f"{name} must be a number, a text, or several of them, got {value!r}")


def of_spec(spec: RunSpec) -> dict[str, Any]:
    """Return the keywords that ask for a spec's run; UserError for one that a search or a part of a benchmark made."""
    if spec.chosen or spec.first_tasks:
        raise UserError("a spec with chosen or first_tasks is one of a search's; give its settings without these")
    spec = canonical(spec)
    return {
        "strategy": spec.strategy,
        "benchmark": spec.benchmark,
        "data": None if spec.dataset == "synthetic" else spec.dataset,
        "seed": spec.seed,
        "epochs": spec.epochs or None,
        "iterations": spec.iterations or None,
        "batch_size": spec.batch_size,
        "optimizer": spec.optimizer,
        "lr": spec.lr,
        "weight_decay": spec.weight_decay,
        "schedule": spec.schedule,
        "precision": spec.precision,
        "channels_last": spec.channels_last,
        "compile": spec.compiled,
        "eval_every": spec.eval_every,
    }


@contextmanager
def said_in_python() -> Iterator[None]:
    """Have errors of a ``with`` block name keywords where they would name flags: ``batch_size`` for --batch-size."""
    try:
        yield
    except UserError as problem:
        text = str(problem).removeprefix("argument ")  # as argparse begins
        problem.args = (re.sub(r"--([a-z][a-z_-]*[a-z])", lambda flag: _keyword(flag[1]), text),)
        raise


def _keyword(flag: str) -> str:
    name = flag.replace("-", "_")
    return "wait=False" if name == "no_wait" else f"{name}_" if keyword.iskeyword(name) else name
