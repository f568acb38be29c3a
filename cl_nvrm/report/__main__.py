"""The command line of the report."""

from collections.abc import Sequence
from pathlib import Path

from cl_nvrm.errors import Parser, UserError, exit_code, leave, note, number
from cl_nvrm.spec import RunResult
from cl_nvrm.sweep.store import Store


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report and return the exit code; errors a user can cause become one line on stderr."""
    return exit_code(lambda: _report(argv))


def _report(argv: Sequence[str] | None) -> int:
    parser = Parser(
        prog="python -m cl_nvrm.report",
        description="Write stored runs as one HTML page, and as Markdown, LaTeX (booktabs) and CSV tables.",
    )
    parser.add_argument("stores", nargs="*", type=Path, default=[Path("reports/runs")], metavar="FOLDER",
                        help="folders of runs (default: reports/runs)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("reports"), metavar="FOLDER",
                        help="where index.html and tables/ go (default: reports)")  # fmt: skip
    parser.add_argument("--title", default="Continual-learning runs", help="title of the page")
    parser.add_argument("--primary", action="append", default=[], metavar="'A - B[: METRIC]'",
                        help="a contrast named before the runs, tested by itself; may be repeated")  # fmt: skip
    parser.add_argument("--margin", type=number(float, 1e-6), default=1.0, metavar="POINTS",
                        help="differences below that are of no interest: margin of the test of equivalence (default: 1)"
                        )  # fmt: skip
    arguments = parser.parse_args(argv)
    for path in write(arguments.stores, arguments.out, arguments.title, arguments.primary, arguments.margin):
        print(path)
    return 0


def write(
    stores: Sequence[Path], out: Path, title: str, primary: Sequence[str] = (), margin: float = 1.0
) -> list[Path]:
    """Write the report of some stores into ``out`` and return its files; UserError if one is not there."""
    from cl_nvrm.analysis.comparisons import Contrast  # heavy: not needed for --help

    contrasts = tuple(map(Contrast.parse, primary))
    results: dict[str, RunResult] = {}
    choices = []
    damaged: dict[Path, str] = {}
    for folder in stores:
        if not folder.is_dir():
            raise UserError(f"There is no folder {folder}; python -m cl_nvrm.run makes runs, --out says where")
        found, left_out = Store(folder).load()
        results |= {result.id: result for result in found}
        damaged |= left_out
        choices += Store(folder).choices()
    for path, reason in damaged.items():
        note(f"{path} is left out: {reason}")
    if not (results or damaged):
        raise UserError(f"There are no runs in {', '.join(map(str, stores))}; python -m cl_nvrm.run makes runs")
    from cl_nvrm.report import export, page
    from cl_nvrm.report.sections import Questions, sections

    made = sections(list(results.values()), Questions(contrasts, margin, tuple(choices)))
    texts = {
        "index.html": page.html(title, made, damaged),
        "tables/tables.md": export.markdown(made),
        "tables/tables.tex": export.latex(made),
        "tables/accuracy.csv": export.accuracy_csv(made),
        "tables/metrics.csv": export.metrics_csv(made),
    }
    try:
        (out / "tables").mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as problem:
        raise UserError(f"Cannot write the report to {out} ({problem.strerror}); name another --out") from problem
    return [out / name for name in texts]


if __name__ == "__main__":
    leave(main())
