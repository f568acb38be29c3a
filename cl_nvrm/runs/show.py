"""Show: all there is to know of a run: settings, results, what made it, its files, how to load its weights."""

import argparse
import json
from collections.abc import Iterator
from typing import Any

from cl_nvrm.analysis.metrics import METRICS, summary
from cl_nvrm.errors import UserError
from cl_nvrm.runs.listing import as_json, size
from cl_nvrm.spec.grammar import write_value
from cl_nvrm.spec.settings import TERMS, terms
from cl_nvrm.sweep.contents import STATUSES, StoredRun
from cl_nvrm.sweep.filters import read, select

MOST = 20  # runs in a command without filters; all of a store would be no answer
LOAD = """\
from pathlib import Path
from cl_nvrm.sweep.store import Store
from cl_nvrm.training import build, weights

store = Store(Path({folder!r}))
result = store.read({run!r})
benchmark, _ = build.build_benchmark(result.spec, None, "cpu")
model = build.build_model(result.spec, benchmark, "cpu")
weights.load(store.weights_path(result.id), model, result.id)
"""


def show(arguments: argparse.Namespace) -> int:
    """Print what there is to know of the runs that words mean, and return 0."""
    words = read(arguments.words)
    runs = select(words)
    if not runs:
        raise UserError("no run is meant by that; cl-nvrm runs lists what there is")
    if not words.chosen and len(runs) > MOST:
        raise UserError(f"there are {len(runs)} runs; write the first digits of an id, or a filter")
    if arguments.format == "json":
        print(json.dumps([_as_json(run) for run in runs]))
        return 0
    for number, run in enumerate(runs):
        print("\n" * (number > 0) + "\n".join(_lines(run)))
    return 0


def _as_json(run: StoredRun) -> dict[str, Any]:
    told = as_json(run) | {"files": [{"kind": f.kind, "path": str(f.path), "bytes": f.size} for f in run.files]}
    return told | {"result": None if run.result is None else json.loads(run.result.to_json())}


def _lines(run: StoredRun) -> Iterator[str]:
    yield f"run {run.id}: {run.status}, {run.when:%Y-%m-%d %H:%M}"
    yield f"  {STATUSES[run.status]}{f': {run.problem}' if run.problem else ''}"
    if run.claimed and run.result is not None:
        yield "  a command is at it again"
    yield from _settings(run)
    if run.result is not None:
        yield from _results(run)
        yield from _made_by(run)
    elif error := run.last_event.get("error"):
        yield f"  {error}"
    yield "\nfiles"
    kinds = max((len(file.kind) for file in run.files), default=0)
    for file in run.files:
        yield f"  {file.kind:{kinds}}  {size(file.size):>7}  {file.path}"
    yield from _weights(run)


def _settings(run: StoredRun) -> Iterator[str]:
    yield "\nsettings"
    for field, value in run.spec.items():
        if field not in TERMS:
            yield f"  {field:14}  {write_value(value)}"
            continue
        for name, parameters in terms(value):
            yield f"  {field:14}  {name}"
            yield from (f"  {'':14}    {key} = {write_value(own)}" for key, own in parameters.items())


def _results(run: StoredRun) -> Iterator[str]:
    assert run.result is not None
    result = run.result
    yield "\nresults (%)"
    if result.error:
        yield f"  {result.error}"
    if len(result.accuracy) > 1:
        width = max(5, len(str(len(result.accuracy))))
        yield f"  {'after task':14}" + "".join(f"{k:>{width + 1}}" for k in range(1, len(result.accuracy[0]) + 1))
        for after, row in enumerate(result.accuracy, 1):
            yield f"  {after:<14}" + "".join(f"{100 * share:{width + 1}.1f}" for share in row)
    found = summary(result)
    for name in METRICS:
        if (value := found[name].value) is not None:
            yield f"  {name:18}  {100 * value:.2f}"
    yield f"  {'seconds':18}  {result.train_seconds:.1f} training, {result.eval_seconds:.1f} evaluating"


def _made_by(run: StoredRun) -> Iterator[str]:
    assert run.result is not None
    yield "\nmade by"
    for name, value in run.result.provenance.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {own}" for key, own in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        yield f"  {name:18}  {str(value).strip()}"


def _weights(run: StoredRun) -> Iterator[str]:
    if run.result is None:
        return
    yield "\nweights"
    if not run.has("weights"):
        yield "  were not kept; the command that made the run, with --keep-weights, trains it again and keeps them"
        return
    yield from (f"  {line}".rstrip() for line in LOAD.format(folder=str(run.store.folder), run=run.id).splitlines())
