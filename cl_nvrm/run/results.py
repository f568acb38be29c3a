"""Results: runs with what can be asked of them: tables, comparisons, figures, and their networks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, overload

from cl_nvrm.analysis.choice import Choice
from cl_nvrm.analysis.comparisons import Cell, Contrast, Paired, cells, comparisons
from cl_nvrm.analysis.equal_plasticity import AtEqualPlasticity, on_fresh_runs
from cl_nvrm.errors import Diverged, Failed, UserError, counted, note
from cl_nvrm.run.keywords import said_in_python
from cl_nvrm.spec import RunResult
from cl_nvrm.spec.cell_names import CellNames, cell_names, setting
from cl_nvrm.sweep.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame
    from torch import nn

    from cl_nvrm.benchmark import Benchmark

SHOWN = 3  # names in a line
WIDTH = 100  # characters of a line, where the terminal's is not known


@dataclass(frozen=True, repr=False, eq=False)
class Results(Sequence[RunResult]):
    """Some runs of a store, in order; ``results[0]`` is a ``RunResult``. A notebook shows their tables and figure.

    ``folder`` is where they are stored, ``names`` what to call their cells. Accuracies and metrics are shares,
    not percent, and differences are those of shares.
    """

    runs: tuple[RunResult, ...]
    names: CellNames
    folder: Path
    primary: tuple[Contrast, ...] = ()
    margin: float = 1.0
    choice: Choice | None = None

    def __len__(self) -> int:
        return len(self.runs)

    @overload
    def __getitem__(self, which: int) -> RunResult: ...
    @overload
    def __getitem__(self, which: slice) -> "Results": ...
    def __getitem__(self, which: int | slice) -> "RunResult | Results":
        return self._of(self.runs[which]) if isinstance(which, slice) else self.runs[which]

    def __iter__(self) -> Iterator[RunResult]:
        return iter(self.runs)

    def __repr__(self) -> str:
        names = list(dict.fromkeys(self.names.values()))
        shown = [*names[:SHOWN], f"{len(names) - SHOWN} more"] if len(names) > SHOWN + 1 else names
        what = f"{counted(len(self), 'run')} of {', '.join(shown) or 'nothing'}"
        unfinished = sum(run.status != "done" for run in self)
        return f"<{what}{f', {unfinished} unfinished' * bool(unfinished)}, in {self.folder}>"

    def __str__(self) -> str:
        from rich.console import Console

        from cl_nvrm.report import terminal

        console = Console(file=StringIO(), width=WIDTH)
        for part in self._parts():
            compared, at_equal = part.paired(), part.at_equal_plasticity()
            terminal.write(console, part.cells, compared, at_equal, self.margin, [], self.folder)
        return console.file.getvalue().rstrip()  # type: ignore[attr-defined,no-any-return]

    def _repr_html_(self) -> str:
        from cl_nvrm.report import notebook
        from cl_nvrm.report.sections import Questions

        asked = Questions(self.primary, self.margin, (self.choice,) if self.choice else ())
        return notebook.html(repr(self), self.runs, asked)

    @property
    def cells(self) -> list[Cell]:
        """The trials of each setting together."""
        return cells(self.runs, self.names)

    def where(self, wanted: Callable[[RunResult], bool]) -> "Results":
        """Return the runs for which ``wanted`` is true: ``where(lambda run: run.spec.lr < 1e-3)``."""
        return self._of(tuple(run for run in self if wanted(run)))

    def _of(self, runs: tuple[RunResult, ...]) -> "Results":
        return replace(self, runs=runs, names=cell_names(run.spec for run in runs))

    def table(self) -> "DataFrame":
        """Return a row for each run: its settings, status, metrics, seconds and id.

        Settings are strategy, benchmark, dataset, lr, seed and whatever else differs among the runs, parameters as
        ``ewc:lambda``. A metric that no run has is left out; one that a run lacks is NaN.
        """
        from cl_nvrm.report import frames

        return frames.runs(self.runs)

    def accuracy(self) -> "DataFrame":
        """Return a row for each accuracy of each run: strategy, seed, after_task, task, accuracy, id of the run."""
        from cl_nvrm.report import frames

        return frames.accuracy(self.cells)

    def compare(self) -> "DataFrame":
        """Return a row for each metric and pair of strategies: first minus second, seed by seed.

        The columns are benchmark, metric, first, second, difference, its 95 % interval (low, high), n, p of the exact
        sign-flip test, p_adjusted for all rows of the benchmark (a primary contrast's for the primary ones), p_within
        of the opposite claim, that the difference lies within the margin, seeds_needed, and primary. Two strategies
        need two common seeds to have rows, and six for a p below 0.05.
        """
        from cl_nvrm.report import frames

        found = [(setting(part.runs[0].spec), row) for part in self._parts() for row in part.paired()]
        return frames.differences(found, self.margin)

    def plot(self, name: str = "") -> "Figure":
        """Draw a figure: mean_accuracy, base_task, accuracy_matrix, frontier, epoch_curves, trace or loss.

        The default is the first of mean_accuracy and epoch_curves that there is something for. UserError if these runs
        have nothing for a figure, or are not of one benchmark.
        """
        from cl_nvrm.report.notebook import shown
        from cl_nvrm.report.save import figure_of

        if (count := len(self._parts())) > 1:
            raise UserError(f"These are runs of {count} benchmarks; choose those of one with where(…)")
        return shown(figure_of(self.cells, name))

    def model(self, which: int | str = 0, *, data_dir: str | Path | None = None, device: str = "cpu") -> "nn.Module":
        """Return the network of a run, by number or id, with its final weights, for evaluation.

        UserError unless the run was trained with ``keep_weights=True`` and its weights are still there.
        """
        from cl_nvrm.sweep.probes import open_model

        with said_in_python():
            return open_model(Store(self.folder), self._run(which), Path(data_dir) if data_dir else None, device)[1]

    def benchmark(self, which: int | str = 0, *, data_dir: str | Path | None = None) -> "Benchmark":
        """Return what a run, by number or id, was trained and tested on."""
        from cl_nvrm.training.build import build_benchmark

        return build_benchmark(self._run(which).spec, Path(data_dir) if data_dir else None, "cpu")[0]

    def check(self) -> None:
        """Raise Failed if a run failed, Diverged if one diverged; these results are in the attribute ``results``."""
        for status, kind in (("failed", Failed), ("diverged", Diverged)):
            if which := [run for run in self if run.status == status]:
                first = f"{self.names[which[0].spec.cell]}, seed {which[0].spec.seed}: {which[0].error}"
                problem = kind(f"{len(which)} of {counted(len(self), 'run')} {status} ({first})")
                problem.results = self
                raise problem

    def paired(self) -> list[Paired]:
        """Return all comparisons, primary contrasts first."""
        return comparisons(self.cells, () if self.choice else self.primary)

    def at_equal_plasticity(self) -> list[AtEqualPlasticity]:
        """Return what methods keep at equal plasticity, where settings were chosen on other runs (``frontier``)."""
        if self.choice is None:
            return []
        try:
            return on_fresh_runs(self.choice, self.cells, [(each.first, each.second) for each in self.primary])
        except UserError as problem:  # runs that failed must not take away what there is
            note(f"nothing is compared at equal plasticity: {problem}")
            return []

    def _parts(self) -> "list[Results]":
        """The runs of each benchmark and data set by themselves."""
        parts: dict[tuple[str, str, str, int], list[RunResult]] = {}
        for run in self:
            spec = run.spec
            parts.setdefault((spec.benchmark, spec.dataset, spec.dataset_sha256, spec.first_tasks), []).append(run)
        return [self] if len(parts) == 1 else [self._of(tuple(part)) for part in parts.values()]

    def _run(self, which: int | str) -> RunResult:
        if isinstance(which, str):
            found = [run for run in self if run.id == which]
            if not found:
                raise UserError(f"There is no run {which} among these {len(self)}")
            return found[0]
        try:
            return self.runs[which]
        except IndexError:
            raise UserError(f"There is no run {which} among these {len(self)}") from None


def stored(folder: Path) -> Results:
    """Return the results of all runs stored in a folder; UserError if there are none."""
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; cl_nvrm.run(…) makes runs, out says where")
    runs = tuple(Store(folder).results())
    if not runs:
        raise UserError(f"There are no runs in {folder}; cl_nvrm.run(…) makes runs")
    return Results(runs, cell_names(run.spec for run in runs), folder)
