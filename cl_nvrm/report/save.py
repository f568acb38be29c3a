"""Figures to files."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from cl_nvrm.analysis.comparisons import Cell
from cl_nvrm.errors import UserError, note
from cl_nvrm.report import figures
from cl_nvrm.spec import text_digest
from cl_nvrm.spec.cell_names import guessing, setting


def save(drawn: Mapping[str, Figure], folder: Path, about: str | None = None) -> list[Path]:
    """Write each figure as PNG and SVG under its name and return the files; UserError if it cannot.

    The same numbers give the same files: no dates, no random ids. ``about`` becomes their description.
    """
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context({"svg.hashsalt": "cl_nvrm"}):
            for name, figure in drawn.items():
                for suffix, without in (("png", "Software"), ("svg", "Date")):
                    path = folder / f"{name}.{suffix}"
                    metadata = {without: None} | ({"Description": about} if about else {})
                    figure.savefig(path, dpi=150, metadata=metadata)
                    paths.append(path)
    except OSError as problem:
        raise UserError(f"Cannot write figures to {folder} ({problem.strerror}); the runs are stored") from problem
    return paths


def draw(cells: Sequence[Cell], folder: Path, about: str | None = None) -> list[Path]:
    """Draw what cells have something for and return the files; none if no run has finished."""
    if not any(cell.done for cell in cells):
        return []
    shown = [figure for figure in figures.FIGURES if figure.in_run and figure.applies(cells)]
    return save({figure.name: figure.draw(cells, _title(cells)) for figure in shown}, folder, about)


def figure_of(cells: Sequence[Cell], name: str = "") -> Figure:
    """Draw one figure; by default the mean accuracy after each task, or else the first there is something for.

    UserError for one that there is not, or that these runs have nothing for.
    """
    shown = {figure.name: figure for figure in figures.FIGURES if figure.applies(cells)}
    name = name or ("mean_accuracy" if "mean_accuracy" in shown else next(iter(shown), ""))
    if not shown:
        raise UserError("There is nothing to draw: no run has finished")
    if name not in shown:
        raise UserError(f"No figure '{name}' of these runs; there is {', '.join(shown)}")
    return shown[name].draw(cells, _title(cells))


def _title(cells: Sequence[Cell]) -> str:
    counts = [len(cell.done) for cell in cells if cell.done]
    n = str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    odds = guessing(result for cell in cells for result in cell.done)
    return f"{setting(cells[0].results[0].spec)}, n = {n}" + (f"\n{odds}" if odds else "")


def draw_beside_others(cells: Sequence[Cell], folder: Path) -> list[Path]:
    """Draw into a folder that may have figures of other runs: these move to a folder of their own, after a note.

    A figure's description names the runs it shows, by a digest of their ids.
    """
    ids = sorted(result.id for cell in cells for result in cell.done)
    about = f"runs {text_digest(' '.join(ids), 8)}"
    if ids:
        _set_aside(folder, about)
    return draw(cells, folder, about)


def _set_aside(folder: Path, about: str) -> None:
    moved = set()
    for path in (folder / f"{figure.name}.png" for figure in figures.FIGURES):
        if not path.is_file() or (shows := _description(path)) == about:
            continue
        other = folder / (shows or "earlier").removeprefix("runs ")
        try:
            other.mkdir(exist_ok=True)
            for file in (path, path.with_suffix(".svg")):
                if file.is_file():
                    file.replace(other / file.name)
        except OSError as problem:
            raise UserError(f"Cannot move the figures of other runs to {other} ({problem.strerror})") from problem
        moved.add(other)
    for other in sorted(moved):
        note(f"the figures of an earlier command are now in {other}")


def _description(path: Path) -> str | None:
    """Return what a figure says it shows; None if it does not say, or is damaged."""
    try:
        with Image.open(path) as image:
            text = str(image.info.get("Description", ""))
    except (OSError, ValueError, SyntaxError):
        return None
    return text if re.fullmatch("runs [0-9a-f]{8}", text) else None
