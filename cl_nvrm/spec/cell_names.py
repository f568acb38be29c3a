"""CellNames: short names that tell the cells of a table apart."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict

from cl_nvrm.errors import UserError, counted
from cl_nvrm.spec import grammar
from cl_nvrm.spec.runs import RunResult, RunSpec

CellNames = dict[RunSpec, str]
NAMES = {
    "dataset_sha256": "data ",
    "batch_size": "batch ",
    "benchmark": "",
    "optimizer": "",
    "dataset": "",
    "chosen": "",
}

TERMS = {"benchmark": "benchmarks", "optimizer": "optimizers", "schedule": "schedules"}


def cell_names(specs: Iterable[RunSpec]) -> CellNames:
    """Return, by cell, a name: the strategy, without its defaults, and whatever else differs among the cells."""
    cells = list(dict.fromkeys(spec.cell for spec in specs))
    settings = [asdict(cell) | {"chosen": "tuned" if cell.chosen else "not tuned"} for cell in cells]
    differing = [
        name
        for name in (settings[0] if settings else ())
        if name != "strategy" and len({values[name] for values in settings}) > 1
    ]
    named = {}
    names = short_names({cell.strategy for cell in cells})
    terms = {field: _short_texts(kind, {values[field] for values in settings}) for field, kind in TERMS.items()}
    for cell, values in zip(cells, settings, strict=True):
        others = (
            f"{NAMES.get(name, name + ' ').replace('_', ' ')}{terms[name][values[name]]}"
            if name in TERMS
            else f"{NAMES.get(name, name + ' ').replace('_', ' ')}{grammar.write_value(values[name])}"
            for name in differing
        )
        named[cell] = ", ".join([names[cell.strategy], *others])
    texts = Counter(named.values())
    # The same settings under another version's defaults, or chosen by two searches: still two cells.
    return {cell: f"{text} ({cell.id[:6]})" if texts[text] > 1 else text for cell, text in named.items()}


def _short_texts(kind: str, texts: Iterable[str]) -> dict[str, str]:
    """What to call each of several canonical terms: settings that differ if they share a name, else the short text."""
    texts = list(texts)
    try:
        terms = {text: grammar.parse(kind, text) for text in texts}
    except UserError:  # of a plug-in that is not here
        return {text: text for text in texts}
    if len({term.name for term in terms.values()}) > 1:
        return {text: grammar.short((term,)) for text, term in terms.items()}
    differing = _differing_settings(terms.values())
    return {text: ", ".join(term.describe(key) for key in differing) for text, term in terms.items()}


def _differing_settings(terms: Iterable[grammar.Term]) -> list[str]:
    """The settings in which terms of one name differ."""
    terms = list(terms)
    return [key for key in (terms[0].settings if terms else ()) if len({t.settings.get(key) for t in terms}) > 1]


def setting(spec: RunSpec, *others: RunSpec) -> str:
    """Return what a spec is run on, for titles: benchmark, data set, and whether test images were left alone.

    Settings of the benchmark in which ``others`` differ are left out.
    """
    name, _, rest = spec.benchmark.partition(":")
    held_out = any(part.startswith("holdout=") and part != "holdout=0" for part in rest.split(","))
    first = f", first {spec.first_tasks} tasks" if spec.first_tasks else ""
    try:
        term = grammar.parse("benchmarks", spec.benchmark)
        told = _differing_settings([term, *(grammar.parse("benchmarks", other.benchmark) for other in others)])
        changed = ",".join(term.describe(key) for key in term.changed() if key not in ("holdout", *told))
    except UserError:  # a benchmark that is not here
        changed = rest
    return f"{name}{f':{changed}' * bool(changed)} on {spec.dataset}{', held-out training images' * held_out}{first}"


def guessing(results: Iterable[RunResult]) -> str:
    """Return how many heads the network has and how often a guess is right, for titles; "" where runs do not say.

    >>> guessing([])
    ''
    """
    told = next((r.provenance for r in results if isinstance(r.provenance.get("chance"), float)), {})
    heads = told.get("heads")
    texts = [counted(heads, "head")] if isinstance(heads, int) else []
    return ", ".join([*texts, f"chance {100 * told['chance']:.3g} %"]) if told else ""


def short_name(strategy: str) -> str:
    """Return a canonical strategy without its defaults; as it stands, if its plug-in is not here."""
    return short_names([strategy])[strategy]


def short_names(strategies: Iterable[str]) -> dict[str, str]:
    """Return the short name of each of several strategies; a term that occurs often is looked up once."""
    names: dict[str, str] = {}
    known: dict[str, str | None] = {}
    for strategy in strategies:
        terms = grammar.PLUS.split(strategy)
        for term in terms:
            if term not in known:
                try:
                    known[term] = grammar.short((grammar.parse("strategies", term),))
                except UserError:
                    known[term] = None
        short = [text for term in terms if (text := known[term]) is not None]
        names[strategy] = "+".join(short) if len(short) == len(terms) else strategy
    return names
