"""Frames: runs as tidy pandas tables, for people who go on with them in Python."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from cl_nvrm.analysis.comparisons import Cell, Paired
from cl_nvrm.analysis.metrics import METRICS, summary
from cl_nvrm.analysis.stats import equivalence_p
from cl_nvrm.errors import UserError
from cl_nvrm.spec import RunResult, RunSpec, grammar
from cl_nvrm.spec.cell_names import TERMS, short_name

ALWAYS = ("strategy", "method", "benchmark", "dataset", "lr", "seed")

DIFFERENCES = (
    "benchmark", "metric", "first", "second", "difference", "low", "high", "n", "p", "p_adjusted", "p_within",
    "seeds_needed", "primary",
)  # fmt: skip


def runs(results: Sequence[RunResult]) -> pd.DataFrame:
    """Return a row a run: settings, those of ``ALWAYS`` and all that differ, status, metrics, seconds, id."""
    settings = [_settings(result.spec) for result in results]
    named = dict.fromkeys(name for own in settings for name in own if name not in ALWAYS)
    differ = [name for name in named if len({own[name] for own in settings if name in own}) > 1]
    found = [summary(result) for result in results]
    defined = [name for name in METRICS if any(own[name].value is not None for own in found)]
    rows = [
        (
            *(own.get(name) for name in (*ALWAYS, *differ)),
            result.status,
            *(metrics[name].value for name in defined),
            result.train_seconds,
            result.eval_seconds,
            result.id,
        )
        for own, metrics, result in zip(settings, found, results, strict=True)
    ]
    columns = [*ALWAYS, *differ, "status", *defined, "train_seconds", "eval_seconds", "id"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(defined, float))


def _settings(spec: RunSpec) -> dict[str, Any]:
    """All settings by column: the spec's fields, of its texts the names, and their parameters as ``name:key``."""
    found = asdict(spec) | {"strategy": short_name(spec.strategy), "method": grammar.family(spec.strategy)}
    del found["dataset_sha256"]
    try:
        others = {field: grammar.parse(kind, getattr(spec, field)) for field, kind in TERMS.items()}
        terms = [*grammar.parse_sum(spec.strategy), *others.values()]
    except UserError:  # of a plug-in that is not here
        return found
    parameters = {f"{term.name}:{key}": value for term in terms for key, value in term.settings.items()}
    return found | {field: term.name for field, term in others.items()} | parameters


def accuracy(cells: Sequence[Cell]) -> pd.DataFrame:
    """Return a row for each accuracy: strategy, seed, after_task, task (from 1), accuracy, id of the run."""
    rows = [
        (cell.name, result.spec.seed, t, k, value, result.id)
        for cell in cells
        for result in cell.results
        for t, row in enumerate(result.accuracy, 1)
        for k, value in enumerate(row, 1)
    ]
    return pd.DataFrame(rows, columns=["strategy", "seed", "after_task", "task", "accuracy", "id"])


def differences(compared: Iterable[tuple[str, Paired]], margin: float) -> pd.DataFrame:
    """Return a row for each comparison, with what it is of; ``margin``, in points, is that of equivalence."""
    rows = [
        {
            "benchmark": benchmark,
            "metric": row.metric,
            "first": row.first,
            "second": row.second,
            "difference": row.found.mean,
            "low": row.found.t[0],
            "high": row.found.t[1],
            "n": row.found.n,
            "p": row.found.p,
            "p_adjusted": row.p_adjusted,
            "p_within": equivalence_p(list(row.found.values.values()), margin / 100),
            "seeds_needed": row.found.seeds_needed,
            "primary": row.primary,
        }
        for benchmark, row in compared
    ]
    return pd.DataFrame(rows, columns=DIFFERENCES)
