"""Conduct: train what a study lacks, and draw what it shows."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console

from cl_nvrm.analysis.comparisons import cells
from cl_nvrm.errors import counted, note
from cl_nvrm.report.save import draw, save
from cl_nvrm.run.execute import carry_out
from cl_nvrm.run.flags import parse
from cl_nvrm.run.plan import plan
from cl_nvrm.spec import RunResult, grammar
from cl_nvrm.spec.cell_names import CellNames, cell_names, setting
from cl_nvrm.study.definitions import Part, Study
from cl_nvrm.sweep.probes import Questions, ask, stored_answers
from cl_nvrm.sweep.store import Store
from cl_nvrm.training.device import find_device


def conduct(name: str, study: Study, scale: str, folder: Path, more: Sequence[str]) -> list[RunResult]:
    """Carry out one study in a folder and say where its figures are; return all its results.

    ``more`` are further words for the commands of its parts.
    """
    if not study.parts:
        _compute(name, study, scale, folder)
        return []
    return _train_and_draw(name, study, scale, folder, more) if study.figure else _as_a_run(study, scale, folder, more)


def _as_a_run(study: Study, scale: str, folder: Path, more: Sequence[str]) -> list[RunResult]:
    """Show what the main command and the report show of these runs.

    Of several parts each has a folder of its own, named by its panel, and may choose from the runs of one before it.
    """
    from cl_nvrm.report.__main__ import write

    every = []
    parts = study.parts[scale]
    for part in parts:
        own = folder / part.panel if len(parts) > 1 else folder
        results, names = _train(study, part, own, more)
        for path in draw(cells(results, names), own / "figures"):
            print(f"figure: {path}")
        if study.tables:
            asked = parse(part.words)
            for path in write([own], own, study.asks, asked.primary, asked.margin):
                print(f"report: {path}")
        every += results
    return every


def _compute(name: str, study: Study, scale: str, folder: Path) -> None:
    """Draw a study that computes what it shows, and write its numbers beside the figures."""
    for path in save({name: study.function(study.figure)(scale)}, folder / "figures"):
        print(f"figure: {path}")
    found = study.function(study.numbers)(scale)
    numbers = {key: float(f"{value:.4g}") if math.isfinite(value) else None for key, value in found.items()}
    path = folder / "numbers" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    print(f"numbers: {path}")


def _train_and_draw(name: str, study: Study, scale: str, folder: Path, more: Sequence[str]) -> list[RunResult]:
    panels: dict[str, list[RunResult]] = {}
    for part in study.parts[scale]:
        panels.setdefault(part.panel, []).extend(_train(study, part, folder, more)[0])
    finished = {panel: [r for r in found if r.status == "done"] for panel, found in panels.items()}
    for panel, found in finished.items():
        if len(found) < len(panels[panel]):
            missing = len(panels[panel]) - len(found)
            note(f"{counted(missing, 'run')} of {name}-{panel} did not finish, and what did not is not drawn")
    drawn = {f"{name}-{panel}": _draw_study(study, found, folder, more) for panel, found in finished.items() if found}
    for path in save(drawn, folder / "figures"):
        print(f"figure: {path}")
    return [result for found in panels.values() for result in found]


def _train(study: Study, part: Part, folder: Path, more: Sequence[str]) -> tuple[list[RunResult], CellNames]:
    words = [
        str(folder.parent / word) if before == "--frontier" else word for before, word in pairwise(("", *part.words))
    ]
    arguments = parse([*words, "--out", str(folder), *more])
    planned = plan(arguments, note)
    store = Store(folder)
    stored = [store.get(spec.id) for spec in planned.specs]
    questions = Questions(study.perturbed)
    if study.perturbed and any(result is None or stored_answers(store, result, questions) is None for result in stored):
        arguments = replace(arguments, keep_weights=True)
    return carry_out(arguments, planned, Console(stderr=True))


def describe(benchmark: str, setting: str) -> str:
    """Return a title that says how noisy the labels are, also where that is the default."""
    settings = grammar.parse("benchmarks", benchmark).settings
    if not settings.get("rate"):
        return setting
    return f"{setting}, {100 * float(settings['rate']):g} % {settings['noise']} label noise"


def _draw_study(study: Study, results: list[RunResult], folder: Path, more: Sequence[str]) -> Figure:
    results = list({result.id: result for result in results}.values())
    shown = cells(results, cell_names(result.spec for result in results))
    specs = list({result.spec.benchmark: result.spec for result in results}.values())
    title = describe(specs[0].benchmark, setting(*specs))
    draw = study.function(study.figure)
    if not study.perturbed:
        drawn: Figure = draw(shown, title)
        return drawn
    arguments, questions = parse(more), Questions(study.perturbed)
    device = find_device(arguments.device)
    answers = {r.id: ask(Store(folder), r, questions, arguments.data_dir, device).curve for r in results}
    figure: Figure = draw(shown, answers, title)
    return figure
