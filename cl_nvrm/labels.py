"""Labels: short names that tell the cells of a table apart."""

from collections.abc import Iterable
from dataclasses import asdict

from cl_nvrm import compose
from cl_nvrm.errors import UserError
from cl_nvrm.spec import RunSpec

Labels = dict[RunSpec, str]
NAMES = {
    "dataset_sha256": "data ",
    "batch_size": "batch ",
    "benchmark": "",
    "optimizer": "",
    "dataset": "",
    "chosen": "",
}


def labels(specs: Iterable[RunSpec]) -> Labels:
    """Return, by cell, a name: the strategy, without its defaults, and whatever else differs among the cells."""
    cells = list(dict.fromkeys(spec.cell for spec in specs))
    settings = [asdict(cell) | {"chosen": "tuned" if cell.chosen else "not tuned"} for cell in cells]
    differing = [
        name
        for name in (settings[0] if settings else ())
        if name != "strategy" and len({values[name] for values in settings}) > 1
    ]
    named = {}
    for cell, values in zip(cells, settings, strict=True):
        others = (
            f"{NAMES.get(name, name + ' ').replace('_', ' ')}{compose.written(values[name])}" for name in differing
        )
        named[cell] = ", ".join([short_name(cell.strategy), *others])
    texts = list(named.values())
    # The same settings under another version's defaults, or chosen by two searches: still two cells.
    return {cell: f"{text} ({cell.id[:6]})" if texts.count(text) > 1 else text for cell, text in named.items()}


def setting(spec: RunSpec) -> str:
    """Return what a spec is run on, for titles: benchmark, data set, and whether test images were left alone."""
    name, _, rest = spec.benchmark.partition(":")
    held_out = any(part.startswith("holdout=") and part != "holdout=0" for part in rest.split(","))
    first = f", first {spec.first_tasks} tasks" if spec.first_tasks else ""
    try:
        term = compose.parse("benchmarks", spec.benchmark)
        changed = ",".join(f"{k}={compose.written(v)}" for k, v in term.changed().items() if k != "holdout")
    except UserError:  # a benchmark that is not here
        changed = rest
    return f"{name}{f':{changed}' * bool(changed)} on {spec.dataset}{', held-out training images' * held_out}{first}"


def short_name(strategy: str) -> str:
    """Return a canonical strategy without its defaults; as it stands, if its plug-in is not here."""
    try:
        return compose.short(compose.strategy(strategy))
    except UserError:
        return strategy
