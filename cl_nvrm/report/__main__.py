"""The command line of the report."""

from collections.abc import Sequence
from pathlib import Path

from cl_nvrm.errors import Parser, UserError, exit_code, leave, note, number
from cl_nvrm.spec import RunResult
from cl_nvrm.sweep import filters
from cl_nvrm.sweep.contents import contents
from cl_nvrm.sweep.store import Store


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report and return the exit code; errors a user can cause become one line on stderr."""
    return exit_code(lambda: _report(argv))


def _report(argv: Sequence[str] | None) -> int:
    parser = Parser(
        prog="python -m cl_nvrm.report",
        description="Write stored runs as one HTML page, and as Markdown, LaTeX (booktabs) and CSV tables.",
    )
    parser.add_argument("words", nargs="*", metavar="FOLDER or FILTER",
                        help="folders of runs (default: reports/runs), and which of these: strategy=ewc* 'lr<1e-3' "
                        "since=7d (python -m cl_nvrm.runs --help says more)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("reports"), metavar="FOLDER",
                        help="where index.html and tables/ go (default: reports)")  # fmt: skip
    parser.add_argument("--title", default="Continual-learning runs", help="title of the page")
    parser.add_argument("--primary", action="append", default=[], metavar="'A - B[: METRIC]'",
                        help="a contrast named before the runs, tested by itself; may be repeated")  # fmt: skip
    parser.add_argument("--margin", type=number(float, 1e-6), default=1.0, metavar="POINTS",
                        help="differences below that are of no interest: margin of the test of equivalence (default: 1)"
                        )  # fmt: skip
    arguments = parser.parse_args(argv)
    words = filters.read(arguments.words, ids=False)
    asked = arguments.title, arguments.primary, arguments.margin
    for path in write(words.folders, arguments.out, *asked, words.filters):
        print(path)
    return 0


def write(
    folders: Sequence[Path],
    out: Path,
    title: str,
    primary: Sequence[str] = (),
    margin: float = 1.0,
    chosen: Sequence[filters.Filter] = (),
) -> list[Path]:
    """Write the report of some folders' runs, those for which all of ``chosen`` hold, and return its files.

    UserError if a folder is not there, or no run.
    """
    from cl_nvrm.analysis.comparisons import Contrast  # heavy: not needed for --help

    contrasts = tuple(map(Contrast.parse, primary))
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise UserError(f"There is no folder {missing[0]}; python -m cl_nvrm.run makes runs, --out says where")
    words = filters.Words(tuple(folders), filters=tuple(chosen))
    stores = [Store(folder) for folder in folders]
    runs = [run for store in stores for run in contents(store)]
    results: dict[str, RunResult] = {run.id: run.result for run in filters.narrow(runs, words) if run.result}
    choices = [choice for store in stores for choice in store.choices()]
    damaged = {run.path: run.problem for run in runs if run.problem}
    for path, reason in damaged.items():
        note(f"{path} is left out: {reason}")
    if not results and (chosen or not damaged):
        raise UserError(
            f"There are no runs{words.told} in {', '.join(map(str, folders))}; python -m cl_nvrm.run makes runs"
        )
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
