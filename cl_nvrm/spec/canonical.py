"""Canonical: of all the specs that mean the same run, the one that the command makes, so that a run has one id."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple, get_args

from cl_nvrm.errors import LARGEST, UserError
from cl_nvrm.spec import catalog, grammar
from cl_nvrm.spec.cell_names import TERMS
from cl_nvrm.spec.grammar import Term
from cl_nvrm.spec.runs import Precision, RunSpec

LEAST = {"seed": 0, "epochs": 0, "iterations": 0, "batch_size": 1, "eval_every": 0, "first_tasks": 0}


def canonical(spec: RunSpec) -> RunSpec:
    """Return the spec that the command makes for the same run; UserError for one that no run can have.

    Terms in any order, ``naive`` in a sum, parameters in any order or left out at their defaults, numbers and names
    written otherwise: all give the same spec. Which data set is meant, by its name and fingerprint, is for the run to
    check, and two settings of one parameter that do the same are two runs.

    >>> spec = RunSpec("nvrm + ewc:lambda=1e2", "toy", "synthetic", "", 0, 1, 32, "adam", 1e-3, 0.0)
    >>> canonical(spec).strategy[:41]
    'ewc:lambda=100,fisher=exact,samples=2000,'
    """
    return canonical_specs([spec])[0]


def canonical_specs(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """Return ``canonical`` of each spec; texts that occur again are read once."""
    read = cache(lambda kind, text: _written(grammar.parse(kind, text)))
    read_sum = cache(lambda text: grammar.canonical(grammar.parse_sum(text)))

    def made(spec: RunSpec) -> RunSpec:
        texts = {field: read(kind, getattr(spec, field)) for field, kind in TERMS.items()}
        return _with_texts(spec, read_sum(spec.strategy), **texts)

    return [made(spec) for spec in specs]


def of_terms(spec: RunSpec, strategy: Sequence[Term], benchmark: Term, optimizer: Term, schedule: Term) -> RunSpec:
    """Return ``canonical`` of a spec whose texts have been read."""
    return _with_texts(
        spec, grammar.canonical(tuple(strategy)), _written(benchmark), _written(optimizer), _written(schedule)
    )


class _Written(NamedTuple):
    text: str
    makes_data: bool


def _written(term: Term) -> _Written:
    return _Written(str(term), not catalog.needs_data(catalog.maker(term.kind, term.name)))


def _with_texts(spec: RunSpec, strategy: str, benchmark: _Written, optimizer: _Written, schedule: _Written) -> RunSpec:
    _check_numbers(spec)
    if benchmark.makes_data and spec.dataset_sha256:
        raise UserError(f"a spec of {benchmark.text}, which makes its own data, has no dataset_sha256")
    return replace(
        spec,
        strategy=strategy,
        benchmark=benchmark.text,
        dataset="synthetic" if benchmark.makes_data else spec.dataset,
        optimizer=optimizer.text,
        schedule=schedule.text,
        lr=spec.lr + 0.0,  # of a negative zero
        weight_decay=spec.weight_decay + 0.0,
    )


def _check_numbers(spec: RunSpec) -> None:
    for name, least in LEAST.items():
        if not least <= getattr(spec, name) <= LARGEST:
            raise UserError(f"{name} of a spec must be a whole number of at least {least}, got {getattr(spec, name)}")
    for name in ("lr", "weight_decay"):
        if not 0 <= getattr(spec, name) < math.inf:
            raise UserError(f"{name} of a spec must be a finite number of at least 0, got {getattr(spec, name)}")
    if bool(spec.epochs) == bool(spec.iterations):
        raise UserError("a spec says how long a task is trained by its epochs or its iterations, and the other is 0")
    if spec.precision not in get_args(Precision):
        raise UserError(f"precision of a spec must be {' or '.join(get_args(Precision))}, got '{spec.precision}'")
