"""Sections: what a report says of each benchmark, as plain values that any format can be made from."""

from collections.abc import Sequence
from dataclasses import dataclass

from cl_nvrm.analysis.bounds import shares
from cl_nvrm.analysis.choice import Choice
from cl_nvrm.analysis.comparisons import Cell, Contrast, but_for_values, cells, check_named, comparisons
from cl_nvrm.analysis.equal_plasticity import on_fresh_runs, on_same_runs
from cl_nvrm.analysis.frontier import families, levels, several_settings
from cl_nvrm.errors import UserError, counted
from cl_nvrm.report import contrasts, tables
from cl_nvrm.report.tables import Table
from cl_nvrm.spec import RunResult
from cl_nvrm.spec.cell_names import cell_names, guessing, setting

MARGIN = 1.0  # points: differences below that are of no interest


@dataclass(frozen=True)
class Section:
    """All that is said of one benchmark on one data set."""

    name: str
    title: str
    about: str
    cells: tuple[Cell, ...]
    tables: tuple[Table, ...]

    @property
    def results(self) -> list[RunResult]:
        """The runs of all cells."""
        return [result for cell in self.cells for result in cell.results]


@dataclass(frozen=True)
class Questions:
    """What a report is asked: which contrasts are primary, the margin of equivalence in points, settings chosen."""

    primary: tuple[Contrast, ...] = ()
    margin: float = MARGIN
    choices: tuple[Choice, ...] = ()


def sections(results: Sequence[RunResult], asked: Questions | None = None) -> list[Section]:
    """Return a section for each benchmark and data set, plain training first among its strategies.

    UserError for a primary contrast that is nowhere.
    """
    groups: dict[tuple[str, str, str, int], list[RunResult]] = {}
    for result in sorted(results, key=_order):
        spec = result.spec
        groups.setdefault((spec.benchmark, spec.dataset, spec.dataset_sha256, spec.first_tasks), []).append(result)
    asked = asked or Questions()
    made = [_section(number, group, asked) for number, group in enumerate(groups.values(), 1)]
    chosen = {pair for choice in asked.choices for pair in choice.contrasts}
    others = [contrast for contrast in asked.primary if (contrast.first, contrast.second) not in chosen]
    check_named(others, *({cell.spec: cell.name for cell in section.cells} for section in made))
    return made


def _order(result: RunResult) -> tuple[object, ...]:
    spec = result.spec
    combined = spec.strategy != "naive"
    return spec.benchmark, spec.dataset, combined, spec.strategy.count("+"), spec.strategy, spec.lr, spec.id


def _section(number: int, results: list[RunResult], asked: Questions) -> Section:
    spec = results[0].spec
    found = cells(results, cell_names([r.spec for r in results]))
    choices = [choice for choice in asked.choices if any(but_for_values(cell.spec) == choice.spec for cell in found)]
    compared = comparisons(found, () if choices else asked.primary)
    shown = [tables.summary(found, compared), tables.intervals(found)]
    if compared:
        shown.append(contrasts.differences(compared, asked.margin))
    shown += frontier_tables(found, asked, choices)
    if found_shares := shares(found):
        shown.append(tables.of_the_way(found_shares))
    settings = spec.benchmark.partition(":")[2]
    scenario = next((r.provenance["scenario"] for r in results if "scenario" in r.provenance), "")
    odds = guessing(results)
    about = ". ".join(
        text
        for text in (
            f"{scenario}" if scenario else "",
            f"{odds[:1].upper()}{odds[1:]}",
            f"Settings: {settings}" if settings else "",
            counted(len(results), "run"),
        )
        if text
    )
    return Section(f"section-{number}", setting(spec), about, tuple(found), tuple(shown))


def frontier_tables(found: Sequence[Cell], asked: Questions, choices: Sequence[Choice]) -> list[Table]:
    """Return what is said at equal plasticity: a test for each choice that was made on other runs, else a table."""
    if not choices:
        by_family = families(found)
        if len(by_family) < 2 or not several_settings(by_family):
            return []
        rows = on_same_runs(by_family, levels(by_family))
        return [contrasts.equal_plasticity(rows, asked.margin)] if rows else []
    return [_judged(choice, found, asked) for choice in choices]


def _judged(choice: Choice, found: Sequence[Cell], asked: Questions) -> Table:
    pairs = [(each.first, each.second) for each in asked.primary]
    try:
        rows = on_fresh_runs(choice, found, [pair for pair in pairs if pair in choice.contrasts])
    except UserError as problem:  # runs that are still to come must not take the page away
        return Table("equal-plasticity", "At equal plasticity", (), (), f"Not complete: {problem}.")
    return contrasts.equal_plasticity(rows, asked.margin)
