"""Page: a report as one HTML file that needs nothing else, neither network nor build step."""

import io
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jinja2 import BaseLoader, Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.text import Text

from cl_nvrm.analysis.metrics import metric
from cl_nvrm.report import figures
from cl_nvrm.report.sections import Section
from cl_nvrm.report.tables import Table
from cl_nvrm.spec import RunResult

HALF_PAGE = 8.0  # inches
INK = "#010203"  # stands for the page's text colour in the drawings


def html(title: str, sections: Sequence[Section], damaged: dict[Path, str]) -> str:
    """Return the page; whatever comes from the store is escaped."""
    environment = Environment(loader=BaseLoader(), autoescape=True, undefined=StrictUndefined)
    table_template = environment.from_string(_text("table.html"))

    def show(table: Table) -> Markup:
        return Markup(table_template.render(table=table))  # escaped in its own template

    results = [result for section in sections for result in section.results]
    return environment.from_string(_text("page.html")).render(
        title=title,
        count=len(results),
        failed=sum(result.status != "done" for result in results),
        damaged=[(path.name, reason) for path, reason in damaged.items()],
        sections=sections,
        show=show,
        figures={section.name: _figures(section) for section in sections},
        matrices={section.name: _matrices(section) for section in sections},
        runs={section.name: _runs(section) for section in sections},
        css=Markup(_text("page.css")),
        js=Markup(_text("page.js")),
        version=_version(),
    )


def _figures(section: Section) -> list[tuple[str, str, bool]]:
    """Return captions, drawings, and whether these are too wide for half the page."""
    shown = [figure for figure in figures.FIGURES if figure.on_page and figure.applies(section.cells)]
    drawn = [(figure.caption, figure.draw(section.cells, "")) for figure in shown]
    with matplotlib.rc_context({"svg.hashsalt": "cl_nvrm", "svg.fonttype": "none"}):
        return [
            (caption, _svg(figure, f"{section.name}-{k}"), figure.get_figwidth() > HALF_PAGE)
            for k, (caption, figure) in enumerate(drawn)
        ]


def _svg(figure: Figure, prefix: str) -> str:
    """Return the drawing as an element of a page: transparent, in the page's colours, ids unique on the page."""
    figure.patch.set_alpha(0)
    for text in figure.findobj(Text):
        text.set_color(INK)
        text.set_parse_math(False)  # a name with dollar signs is a name
    for axis in figure.axes:
        axis.patch.set_alpha(0)
        axis.tick_params(color=INK, labelcolor=INK)
        axis.grid(color="#8888", lw=0.6)
        for spine in axis.spines.values():
            spine.set_edgecolor("#888888")
        legend = axis.get_legend()
        if legend is not None:
            legend.get_frame().set(alpha=0, facecolor="none", edgecolor="none")
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue().replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)


def _matrices(section: Section) -> list[tuple[str, list[list[float]]]]:
    shown = []
    for cell in section.cells:
        if cell.done and len(cell.done[0].accuracy) > 1:
            alike = [r.accuracy for r in cell.done if len(r.accuracy) == len(cell.done[0].accuracy)]
            shown.append((cell.name, np.mean(alike, axis=0).tolist()))
    return shown


def _runs(section: Section) -> list[dict[str, Any]]:
    return [_run(cell.name, result) for cell in section.cells for result in cell.results]


def _run(name: str, result: RunResult) -> dict[str, Any]:
    def percent(of: str) -> str:
        value = metric(of, result).value
        return "–" if value is None else f"{100 * value:.1f}"

    record = {"settings": asdict(result.spec), "provenance": result.provenance, "diagnostics": result.diagnostics}
    return {
        "name": name,
        "seed": result.spec.seed,
        "status": result.status,
        "error": result.error,
        "base": percent("base task"),
        "acc": percent("ACC"),
        "gradients": result.provenance.get("gradient_passes", "–"),
        "seconds": f"{result.train_seconds + result.eval_seconds:.1f}",
        "id": result.id,
        "record": json.dumps(record, indent=1, ensure_ascii=False),
    }


def _text(name: str) -> str:
    return files("cl_nvrm.report").joinpath(name).read_text(encoding="utf-8")


def _version() -> str:
    try:
        return version("cl_nvrm")
    except PackageNotFoundError:  # a bare checkout
        return ""
