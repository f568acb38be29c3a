"""Notebook: results as a piece of HTML with their tables and figures, for Jupyter and its like."""

import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from html import escape

from matplotlib.figure import Figure

from cl_nvrm.report import figures
from cl_nvrm.report.sections import Questions, Section, sections
from cl_nvrm.report.tables import Table
from cl_nvrm.report.terminal import IN_SHORT
from cl_nvrm.spec import RunResult

TABLES = ("summary", "differences", "equal-plasticity")
FIGURES = ("mean_accuracy", "epoch_curves")


def html(about: str, results: Sequence[RunResult], asked: Questions) -> str:
    """Return what a notebook shows: a line about the runs, and of each benchmark tables and a figure."""
    return f"<p>{escape(about)}</p>" + "".join(map(_section, sections(results, asked)))


def _section(section: Section) -> str:
    drawn = [figure for figure in figures.FIGURES if figure.name in FIGURES and figure.applies(section.cells)]
    return (
        f"<h4>{escape(section.title)}</h4><p>{escape(section.about)}</p>"
        + "".join(_table(_in_short(table)) for table in section.tables if table.name in TABLES)
        + "".join(_image(figure.caption, figure.draw(section.cells, "")) for figure in drawn)
    )


def _in_short(table: Table) -> Table:
    """A table without the differences that the terminal leaves out, too."""
    if table.name != "differences":
        return table
    rows = [row for row in table.rows if row[1].text in IN_SHORT or row[0].text.startswith("primary: ")]
    return replace(table, rows=tuple(rows))


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in table.header)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(entry.text)}</td>' for entry in row)}</tr>" for row in table.rows)
    shown = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if table.rows else ""
    return f"<h5>{escape(table.title)}</h5>{shown}<p><small>{escape(table.note)}</small></p>"


def _image(caption: str, figure: Figure) -> str:
    return f'<img alt="{escape(caption)}" src="data:image/png;base64,{b64encode(_png(figure)).decode()}">'


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    return picture.getvalue()


def shown(figure: Figure) -> Figure:
    """Have notebooks show a figure, as they do by themselves with those of pyplot only."""
    figure._repr_png_ = partial(_png, figure)  # type: ignore[attr-defined]
    return figure
