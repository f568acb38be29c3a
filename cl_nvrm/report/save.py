"""Figures to files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from cl_nvrm.analysis.comparisons import Cell
from cl_nvrm.errors import UserError
from cl_nvrm.report import figures
from cl_nvrm.spec.cell_names import setting


def save(drawn: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write each figure as PNG and SVG under its name and return the files; UserError if it cannot.

    The same numbers give the same files: no dates, no random ids.
    """
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context({"svg.hashsalt": "cl_nvrm"}):
            for name, figure in drawn.items():
                for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
                    path = folder / f"{name}.{suffix}"
                    figure.savefig(path, dpi=150, metadata=metadata)
                    paths.append(path)
    except OSError as problem:
        raise UserError(f"Cannot write figures to {folder} ({problem.strerror}); the runs are stored") from problem
    return paths


def draw(cells: Sequence[Cell], folder: Path) -> list[Path]:
    """Draw what cells have something for and return the files; none if no run has finished."""
    counts = [len(cell.done) for cell in cells if cell.done]
    if not counts:
        return []
    n = str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    title = f"{setting(cells[0].results[0].spec)}, n = {n}"
    shown = [figure for figure in figures.FIGURES if figure.in_run and figure.applies(cells)]
    return save({figure.name: figure.draw(cells, title) for figure in shown}, folder)
