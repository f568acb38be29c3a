"""``python -m cl_nvrm.study``: train what a study needs and is not stored yet, and draw its figures."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console

from cl_nvrm.analysis.comparisons import cells
from cl_nvrm.run.execute import carry_out, outcome
from cl_nvrm.run.exit import exit_code, notes
from cl_nvrm.run.flags import parse
from cl_nvrm.run.plan import plan
from cl_nvrm.spec import RunResult, grammar
from cl_nvrm.spec.cell_names import labels, setting
from cl_nvrm.study.definitions import SCALES, Part, Study
from cl_nvrm.study.studies import GROUPS
from cl_nvrm.sweep.store import Store
from cl_nvrm.training.device import device_named

FOLDER = Path("reports/studies")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the studies named and return the exit code."""
    listed = "\n\n".join(
        "\n".join([f"{group}:", *(f"  {name:20}{study.asks}" for name, study in studies.items())])
        for group, studies in GROUPS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m cl_nvrm.study",
        description="Train what a study needs, skip what is stored, draw its figures.",
        epilog=listed,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="STUDY", help="studies, or groups of them, by name (default: all)")
    parser.add_argument("--scale", choices=SCALES, default="small",
                        help="paper: the full recipe; small: four cores; smoke: to see it run (default: small)"
                        )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"folder of runs and figures (default: {FOLDER}/GROUP/SCALE)"
    )
    as_in = "as for python -m cl_nvrm.run"
    for flag in ("--trials", "--epochs", "--jobs", "--device", "--precision", "--data-dir"):
        parser.add_argument(flag, help=as_in)
    for flag in ("--channels-last", "--compile", "--quiet"):
        parser.add_argument(flag, action="store_true", help=as_in)
    arguments = parser.parse_args(sys.argv[1:] if argv is None else argv)
    more = [
        word
        for name, value in vars(arguments).items()
        if name not in ("names", "scale", "out") and value not in (None, False)
        for word in (f"--{name.replace('_', '-')}", *([] if value is True else [value]))
    ]
    every = {name: (group, study) for group, studies in GROUPS.items() for name, study in studies.items()}
    chosen: dict[str, tuple[str, Study]] = {}
    for name in arguments.names or GROUPS:
        if name not in every and name not in GROUPS:
            parser.error(f"no study '{name}'; there are {', '.join([*GROUPS, *every])}")
        chosen |= {one: every[one] for one in GROUPS.get(name, (name,))}
    deaf = [name for name, (_, study) in chosen.items() if not study.parts]
    if arguments.names and more and set(more) != {"--quiet"} and len(deaf) == len(chosen):
        parser.error(f"{deaf[0]} computes what it shows, and takes none of {' '.join(more)}")

    def run(errors: Console) -> int:
        results = []
        for name, (group, study) in chosen.items():
            errors.print(f"{name}: {study.asks}", soft_wrap=True, highlight=False)
            folder = arguments.out or FOLDER / group / arguments.scale
            if study.parts:
                results += _run(name, study, arguments.scale, folder, more, errors)
            else:
                _compute(name, study, arguments.scale, folder)
        return outcome(results)

    return exit_code(run)


def _compute(name: str, study: Study, scale: str, folder: Path) -> None:
    """Draw a study that computes what it shows, and write its numbers beside the figures."""
    from cl_nvrm.report.save import save

    for path in save({name: study.function(study.figure)(scale)}, folder / "figures"):
        print(f"figure: {path}")
    found = study.function(study.numbers)(scale)
    numbers = {key: float(f"{value:.4g}") if math.isfinite(value) else None for key, value in found.items()}
    path = folder / "numbers" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    print(f"numbers: {path}")


def _run(name: str, study: Study, scale: str, folder: Path, more: Sequence[str], errors: Console) -> list[RunResult]:
    """Train and draw one study; return all results."""
    from cl_nvrm.report.save import save

    panels: dict[str, list[RunResult]] = {}
    for part in study.parts[scale]:
        panels.setdefault(part.panel, []).extend(_trained(study, part, folder, more, errors))
    finished = {panel: [r for r in found if r.status == "done"] for panel, found in panels.items()}
    for panel, found in finished.items():
        if len(found) < len(panels[panel]):
            missing = len(panels[panel]) - len(found)
            notes(errors)(f"{missing} runs of {name}-{panel} did not finish and are not drawn")
    drawn = {f"{name}-{panel}": _drawn(study, found, folder, more) for panel, found in finished.items() if found}
    for path in save(drawn, folder / "figures"):
        print(f"figure: {path}")
    return [result for found in panels.values() for result in found]


def _trained(study: Study, part: Part, folder: Path, more: Sequence[str], errors: Console) -> list[RunResult]:
    from cl_nvrm.sweep.probes import Questions, kept

    warn = notes(errors)
    arguments = parse([*part.words, "--out", str(folder), *more])
    planned = plan(arguments, warn)
    store = Store(folder)
    stored = [store.get(spec.id) for spec in planned.specs]
    questions = Questions(study.perturbed)
    if study.perturbed and any(result is None or kept(store, result, questions) is None for result in stored):
        arguments = replace(arguments, keep_weights=True)
    return carry_out(arguments, planned, errors, warn)[0]


def described(benchmark: str, setting: str) -> str:
    """Return a title that says how noisy the labels are, also where that is the default."""
    settings = grammar.parse("benchmarks", benchmark).settings
    if not settings.get("rate"):
        return setting
    return f"{setting}, {100 * float(settings['rate']):g} % {settings['noise']} label noise"


def _drawn(study: Study, results: list[RunResult], folder: Path, more: Sequence[str]) -> Figure:
    from cl_nvrm.sweep.probes import Questions, ask

    results = list({result.id: result for result in results}.values())
    shown = cells(results, labels(result.spec for result in results))
    specs = list({result.spec.benchmark: result.spec for result in results}.values())
    title = described(specs[0].benchmark, setting(*specs))
    draw = study.function(study.figure)
    if not study.perturbed:
        drawn: Figure = draw(shown, title)
        return drawn
    arguments, questions = parse(more), Questions(study.perturbed)
    device = device_named(arguments.device)
    answers = {r.id: ask(Store(folder), r, questions, arguments.data_dir, device).curve for r in results}
    figure: Figure = draw(shown, answers, title)
    return figure


if __name__ == "__main__":
    sys.exit(main())
