"""Export: a report's tables as Markdown and LaTeX, and its numbers as tidy CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields

from cl_nvrm.analysis.metrics import summary
from cl_nvrm.report.sections import Section
from cl_nvrm.report.tables import Table
from cl_nvrm.spec import RunResult, RunSpec

_SETTINGS = ("run", *(field.name for field in fields(RunSpec)))
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "\0": "{}", "<": r"$<$", ">": r"$>$",
}  # fmt: skip


def markdown(sections: Sequence[Section]) -> str:
    """Return all tables as one Markdown text."""
    lines = []
    for section in sections:
        lines += [f"# {_escape_markdown(section.title)}", "", _escape_markdown(section.about), ""]
        lines.append(markdown_tables(section.tables))
    return "\n".join(lines)


def markdown_tables(tables: Sequence[Table]) -> str:
    """Return tables as Markdown, each below its title and above its note."""
    lines = []
    for table in tables:
        lines += [f"## {table.title}", "", *_markdown_table(table), "", _escape_markdown(table.note), ""]
    return "\n".join(lines)


def _markdown_table(table: Table) -> Iterable[str]:
    yield _row(map(_escape_markdown, table.header))
    yield _row("---" if number < table.texts else "---:" for number in range(len(table.header)))
    for row in table.rows:
        yield _row(_escape_markdown(entry.text) for entry in row)


def _row(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _escape_markdown(text: str) -> str:
    for sign in "\\|*_<`[]~&":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\n", " ")


def latex(sections: Sequence[Section]) -> str:
    """Return all tables as LaTeX, for a document that loads ``booktabs`` and ``longtable``."""
    parts = []
    for section in sections:
        for table in section.tables:
            columns = "l" * table.texts + "r" * (len(table.header) - table.texts)
            body = "\n".join(f"{' & '.join(_escape_latex(entry.text) for entry in row)} \\\\" for row in table.rows)
            parts.append(
                f"% {section.title.replace(chr(10), ' ')}: {table.title}\n\\begin{{longtable}}{{{columns}}}\n"
                f"\\caption{{{_escape_latex(f'{section.title}: {table.title}. {table.note}')}}} \\\\\n"
                f"\\toprule\n{' & '.join(map(_escape_latex, table.header))} \\\\\n"
                f"\\midrule\n\\endhead\n{body}\n\\bottomrule\n\\end{{longtable}}\n"
            )
    return "\n".join(parts)


def _escape_latex(text: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in text.replace("--", "-\0-")).replace("\n", " ")


def accuracy_csv(sections: Sequence[Section]) -> str:
    """Return R[t][k] of every run, one row a number."""
    header = (*_SETTINGS, "status", "after_task", "task", "accuracy")
    rows = (
        (*run, result.status, t, k, value)
        for section in sections
        for result in section.results
        for run in [_run(result)]
        for t, row in enumerate(result.accuracy, 1)
        for k, value in enumerate(row, 1)
    )
    return _csv(header, rows)


def metrics_csv(sections: Sequence[Section]) -> str:
    """Return every metric of every run, one row a number, empty with a reason where it is not defined."""
    header = (*_SETTINGS, "metric", "value", "reason")
    rows = (
        (*run, name, "" if found.value is None else found.value, found.reason or "")
        for section in sections
        for result in section.results
        for run in [_run(result)]
        for name, found in summary(result).items()
    )
    return _csv(header, rows)


def _run(result: RunResult) -> tuple[object, ...]:
    return result.id, *asdict(result.spec).values()


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
