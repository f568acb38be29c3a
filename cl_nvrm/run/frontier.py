"""Frontier: which settings to run again, from the runs of a grid.

Few seeds of many settings first (a screen), more seeds of those near a frontier (a grid), fresh ones of those on it.
"""

from collections.abc import Callable
from dataclasses import replace

from cl_nvrm.analysis.choice import Choice, Setting, choose
from cl_nvrm.analysis.comparisons import Cell, but_for_values, cells
from cl_nvrm.analysis.frontier import families, levels, near_front
from cl_nvrm.errors import UserError, counted
from cl_nvrm.run.flags import Arguments
from cl_nvrm.spec import RunResult, RunSpec, grammar
from cl_nvrm.spec.canonical import canonical_specs
from cl_nvrm.spec.cell_names import cell_names
from cl_nvrm.sweep.store import Store


def settings_near(arguments: Arguments, wanted: RunSpec, warn: Callable[[str], None]) -> list[Setting]:
    """Return the settings of the runs in ``--frontier`` that lie within ``--slack`` of it, to run more seeds of."""
    by_family = _families(arguments, wanted, warn)
    return [(cell.spec.strategy, cell.spec.lr) for cell in near_front(by_family, arguments.slack / 100)]


def choice_for(arguments: Arguments, wanted: RunSpec, warn: Callable[[str], None]) -> Choice:
    """Return the settings that make up the frontier of the runs in ``--frontier``, for runs like ``wanted``.

    UserError if a level is beyond all.
    """
    by_family = _families(arguments, wanted, warn)
    specs = [cell.spec for of in by_family.values() for cell in of]
    if not any("holdout=" in spec.benchmark and "holdout=0" not in spec.benchmark for spec in specs):
        warn("these settings were chosen on the images they are judged on; held-out ones are NAME:holdout=10000")
    asked = [level / 100 for level in arguments.levels or ()] or levels(by_family)
    choice = choose(by_family, wanted, asked)
    for number, level in enumerate(asked):
        if sum(of[number] is not None for of in choice.families.values()) < 2:
            raise UserError(f"--levels: no two methods in {arguments.frontier} reach {100 * level:g} % on a new task")
    return choice


def _families(arguments: Arguments, wanted: RunSpec, warn: Callable[[str], None]) -> dict[str, list[Cell]]:
    """The runs of the same benchmark, held-out images aside, trained alike; those of settings with the most seeds.

    UserError if there are none, or too few to choose from, or if their seeds are those asked for.
    """
    folder = arguments.frontier
    assert folder is not None
    if folder.resolve() == arguments.out.resolve():
        raise UserError("--out: the runs that chose and those to be judged need folders of their own")
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; --frontier is the --out of the runs to choose from")
    found = _as_of_today([result for result in Store(folder).results() if _alike(result.spec, wanted)])
    if not found:
        raise UserError(f"--frontier: {folder} has no runs of {wanted.benchmark} on {wanted.dataset}, trained alike")
    shown = cells(found, cell_names(result.spec for result in found))
    most = max(len(cell.results) for cell in shown)
    by_family = families([cell for cell in shown if len(cell.results) == most])
    kept = [cell.spec for of in by_family.values() for cell in of]
    if left := [cell for cell in shown if cell.spec not in kept]:
        few, broken = ([cell.name for cell in left if (len(cell.results) < most) is fewer] for fewer in (True, False))
        warn(
            f"{counted(len(left), 'setting')} of {folder} left out: "
            + "; ".join(
                f"{why}: {', '.join(names[:3])}{' …' * (len(names) > 3)}"
                for why, names in ((f"fewer than {most} seeds", few), ("a run diverged or failed", broken))
                if names
            )
        )
    if len(by_family) < 2:
        raise UserError(
            f"--frontier: {folder} has {counted(len(by_family), 'method')} all of whose runs finished; run two"
        )
    seeds = range(arguments.seed, arguments.seed + arguments.trials)
    if used := sorted({result.spec.seed for result in found} & set(seeds)):
        last = max(result.spec.seed for result in found)
        raise UserError(
            f"--seed: seed {used[0]} is one of the runs in {folder}, which chose; take others, from {last + 1}"
        )
    return by_family


def _as_of_today(results: list[RunResult]) -> list[RunResult]:
    """The results with the texts that these settings have now, as a plug-in may have got a parameter since."""
    try:
        specs = canonical_specs(result.spec for result in results)
    except UserError:  # a strategy that is not here, which is said where it is needed
        return results
    return [replace(result, spec=spec) for result, spec in zip(results, specs, strict=True)]


def _alike(spec: RunSpec, wanted: RunSpec) -> bool:
    return _but_held_out(but_for_values(spec)) == _but_held_out(but_for_values(wanted)) and not spec.chosen


def _but_held_out(spec: RunSpec) -> RunSpec:
    try:
        term = grammar.parse("benchmarks", spec.benchmark)
    except UserError:  # a benchmark that is not here
        return spec
    settings = {key: value for key, value in term.settings.items() if key != "holdout"}
    return replace(spec, benchmark=str(replace(term, settings=settings)))
