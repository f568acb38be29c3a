"""Sections: what a report says of each benchmark, as plain values that any format can be made from."""

from collections.abc import Sequence
from dataclasses import dataclass

from cl_nvrm.analysis.bounds import shares
from cl_nvrm.analysis.comparisons import Cell, cells, comparisons
from cl_nvrm.analysis.frontier import at_equal_plasticity, families, several_settings
from cl_nvrm.analysis.metrics import METRICS
from cl_nvrm.errors import counted
from cl_nvrm.report import tables
from cl_nvrm.report.tables import Table
from cl_nvrm.spec import RunResult
from cl_nvrm.spec.cell_names import cell_names, guessing, setting


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


def sections(results: Sequence[RunResult]) -> list[Section]:
    """Return a section for each benchmark and data set, plain training first among its strategies."""
    groups: dict[tuple[str, str, str, int], list[RunResult]] = {}
    for result in sorted(results, key=_order):
        spec = result.spec
        groups.setdefault((spec.benchmark, spec.dataset, spec.dataset_sha256, spec.first_tasks), []).append(result)
    return [_section(number, group) for number, group in enumerate(groups.values(), 1)]


def _order(result: RunResult) -> tuple[object, ...]:
    spec = result.spec
    combined = spec.strategy != "naive"
    return spec.benchmark, spec.dataset, combined, spec.strategy.count("+"), spec.strategy, spec.lr, spec.id


def _section(number: int, results: list[RunResult]) -> Section:
    spec = results[0].spec
    found = cells(results, cell_names([r.spec for r in results]))
    compared = comparisons(found, list(METRICS))
    by_family = families(found)
    shown = [tables.summary(found, compared), tables.intervals(found)]
    if compared:
        shown.append(tables.differences(compared))
    if len(by_family) > 1 and several_settings(by_family):
        shown.append(tables.equal_plasticity(at_equal_plasticity(by_family)))
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
