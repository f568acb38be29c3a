import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from cl_nvrm.report.__main__ import main
from cl_nvrm.report.export import latex, markdown
from cl_nvrm.report.sections import Section
from cl_nvrm.report.tables import Entry, Table
from cl_nvrm.spec import RunResult, RunSpec
from cl_nvrm.sweep.store import Store

STRATEGIES = ("naive", "nvrm", "ewc", "ewc+nvrm", "si", "si+nvrm")
EVIL = '<img src=x onerror="alert(1)">&</script>'


def runs(seeds=10, strategies=STRATEGIES, lrs=(1e-3,), tasks=5):
    from cl_nvrm.spec import grammar

    for number, strategy in enumerate(strategies):
        text = grammar.canonical(grammar.parse_sum(strategy))
        for lr in lrs:
            for seed in range(seeds):
                spec = RunSpec(text, "permuted-mnist:tasks=5", "mnist", "0", seed, 1, 256, "adam", lr, 0.0)

                def accuracy(t, k, number=number, seed=seed, lr=lr):
                    return 0.1 if k > t else 0.9 - (0.3 - 0.04 * number) * (t - k) / tasks - 0.01 * (seed % 3) - lr

                matrix = tuple(tuple(accuracy(t, k) for k in range(tasks)) for t in range(tasks))
                about = {"scenario": "domain-incremental", "chance": 0.1, "versions": {"torch": "2.15.0"}}
                yield RunResult(
                    spec, "done", matrix, losses=((0.5,),) * tasks, provenance=about, train_seconds=12.3,
                    diagnostics={"ewc": [{"importance_sum": 1.0}] * tasks}, initial=(0.1,) * tasks,
                )  # fmt: skip


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "runs"
    made = Store(folder)
    made.prepare()
    return made


@pytest.fixture
def report(store, tmp_path, capsys):
    """Save results, write the report, return its folder."""

    def write(results=(), code=0):
        for result in results:
            store.save(result)
        assert main([str(store.folder), "--out", str(tmp_path / "report")]) == code, capsys.readouterr().err
        return tmp_path / "report"

    return write


def test_sixty_runs_make_one_small_page_that_asks_for_nothing_else(report):
    results = list(runs())
    folder = report(results)
    page = (folder / "index.html").read_text()
    assert len(page.encode()) < 3_000_000
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"|@import|url\((?!#)', page)
    assert all(result.id in page for result in results)
    for text in ("permuted-mnist on mnist", "ewc+nvrm", "max-T", "learning accuracy", "2.15.0"):
        assert text in page


def test_the_same_runs_give_the_same_page(report):
    first = {p.name: p.read_bytes() for p in report(runs(2, ("naive", "ewc"))).rglob("*.*")}
    assert {p.name: p.read_bytes() for p in report().rglob("*.*")} == first


def test_names_from_the_store_are_escaped_everywhere(report):
    made = [replace(r, spec=replace(r.spec, strategy=EVIL, dataset=EVIL)) for r in runs(2, ("naive",))]
    made += [replace(r, status="failed", error=EVIL, accuracy=()) for r in runs(1, ("ewc",))]
    folder = report(made)
    page = (folder / "index.html").read_text()
    assert "<img" not in page and page.count("</script>") == 1 and "&lt;img" in page
    assert EVIL in (folder / "tables/accuracy.csv").read_text().replace('""', '"')
    assert "<img" not in (folder / "tables/tables.md").read_text().replace("\\<img", "")


def test_damaged_and_foreign_files_are_named_and_the_rest_is_shown(report, store):
    (store.folder / "cut.json").write_text('{"schema": 1')
    (store.folder / "foreign.json").write_text('{"schema": 99}')
    page = (report(runs(2)) / "index.html").read_text()
    assert "2 files could not be read" in page and "cut.json" in page and "foreign.json" in page and "naive" in page


@pytest.mark.parametrize(
    "results",
    [
        list(runs(1, ("naive",))),
        [replace(r, status="diverged", accuracy=r.accuracy[:1], error="oh") for r in runs(2, ("naive",))],
        [replace(r, accuracy=((0.9,),), losses=((0.1,),), initial=(0.1,)) for r in runs(3, ("naive", "ewc"))],
    ],
    ids=["one run", "none finished", "one task"],
)
def test_little_to_tell_is_told_all_the_same(report, results):
    folder = report(results)
    assert "</html>" in (folder / "index.html").read_text()


def test_a_trace_without_rows_and_names_with_dollar_signs_do_no_harm(report):
    made = [replace(r, spec=replace(r.spec, eval_every=1000)) for r in runs(2, ("naive",))]
    made += [replace(r, spec=replace(r.spec, strategy=r"$\frac$"), losses=()) for r in runs(2, ("naive",))]
    assert "frac" in (report(made) / "index.html").read_text()


def test_a_trace_is_drawn(report):
    trace = tuple((t, i, (0.9 - 0.01 * i,) * (t + 1)) for t in range(5) for i in (10, 20))
    made = [replace(r, spec=replace(r.spec, eval_every=10), trace=trace) for r in runs(2, ("naive", "ewc"))]
    folder = report(made)
    assert "while training" in (folder / "index.html").read_text()
    assert "WC-ACC" in (folder / "tables/tables.md").read_text()


def test_where_no_star_can_appear_the_note_says_so(report):
    text = (report(runs(5, ("naive", "ewc", "si"), tasks=3)) / "tables/tables.md").read_text()
    assert "no star can appear" in text and not re.search(r"\d\\\*", text)


def test_fewer_than_five_seeds_get_no_stars_and_are_told_so(report):
    three = STRATEGIES[:3]
    text = (report(runs(4, three, tasks=3)) / "tables/tables.md").read_text()
    assert "With fewer than 5 seeds nothing is marked" in text and not re.search(r"\d\\\*", text)
    assert re.search(r"\d\\\*", (report(runs(10, three, tasks=3)) / "tables/tables.md").read_text())


def test_several_settings_of_a_method_get_a_frontier_and_a_comparison_at_equal_plasticity(report):
    folder = report(runs(6, ("ewc", "ewc+nvrm"), lrs=(0.0, 0.01, 0.05), tasks=3))
    assert "Stability: final accuracy" in (folder / "index.html").read_text()
    assert "At equal plasticity" in (folder / "tables/tables.md").read_text()


def test_tables_are_tidy_csv_markdown_and_booktabs(report):
    results = list(runs(2, ("naive", "ewc:lambda=30")))
    folder = report(results) / "tables"
    rows = list(csv.DictReader(io.StringIO((folder / "accuracy.csv").read_text())))
    assert len(rows) == 4 * 25
    assert float(rows[0]["accuracy"]) == next(r for r in results if r.id == rows[0]["run"]).accuracy[0][0]
    metrics = list(csv.DictReader(io.StringIO((folder / "metrics.csv").read_text())))
    assert {row["metric"] for row in metrics} >= {"ACC", "BWT", "FWT"}
    empty = [row for row in metrics if not row["value"]]
    assert empty and all(row["reason"] for row in empty)
    tex = (folder / "tables.tex").read_text()
    assert tex.count(r"\toprule") == tex.count(r"\bottomrule") == tex.count(r"\end{longtable}") > 0
    assert r"95 \% CI" in tex and not re.search(r"(?<!\\)[_#&%](?=[^\n]*\\\\)(?! )", tex.replace(" & ", " "))


@pytest.mark.parametrize("texts", [0, 1, 2])
def test_columns_of_text_are_left_aligned(texts):
    row = tuple(Entry(letter) for letter in "abc")
    section = Section("s", "", "", (), (Table("t", "t", ("A", "B", "C"), (row,), texts=texts),))
    assert f"| {' | '.join(['---'] * texts + ['---:'] * (3 - texts))} |" in markdown([section])
    assert f"{{longtable}}{{{'l' * texts}{'r' * (3 - texts)}}}" in latex([section])


def test_a_folder_without_runs_is_said_and_nothing_is_written(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "report")]) == 2
    assert "There are no runs in" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_said(report, capsys, tmp_path):
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "There is no folder" in capsys.readouterr().err


@pytest.fixture
def browser(tmp_path):
    """A headless Chromium that keeps its console."""
    webdriver = pytest.importorskip("selenium.webdriver")
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    binary, driver = next(filter(None, found), None), shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "disable-dev-shm-usage", f"user-data-dir={tmp_path / 'profile'}",
    ):  # fmt: skip
        options.add_argument(f"--{argument}")
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield made
    made.quit()


def test_a_real_browser_renders_it_sorts_it_and_logs_no_error(report, browser):
    broken = [replace(r, spec=replace(r.spec, strategy=EVIL), status="failed", error=EVIL) for r in runs(1, ("naive",))]
    folder = report([*runs(6), *broken])
    browser.set_window_size(1200, 900)
    browser.get((folder / "index.html").as_uri())
    assert browser.title == "Continual-learning runs"
    by = "css selector"
    assert len(browser.find_elements(by, "figure svg path")) > 20
    assert all(svg.size["height"] > 100 for svg in browser.find_elements(by, "figure svg"))

    def column():
        rows = browser.find_elements(by, "section table.sortable tbody")[0].find_elements(by, "tr")
        return [float(row.find_elements(by, "td")[2].get_attribute("data-sort") or "nan") for row in rows]

    button = browser.find_elements(by, "section table.sortable thead")[0].find_elements(by, "button")[3]
    assert button.text.strip().startswith("ACC")
    button.send_keys("\ue007")  # Enter: the keyboard will do
    values = [v for v in column() if v == v]
    assert values == sorted(values) and len(set(values)) > 3
    button.click()
    values = [v for v in column() if v == v]
    assert values == sorted(values, reverse=True)
    heading = button.find_element("xpath", "..")
    assert heading.get_attribute("aria-sort") == "descending"

    details = browser.find_elements(by, "section > details")[-1]
    details.find_element(by, "summary").click()
    run = details.find_elements(by, "td details")[0]
    run.find_element(by, "summary").click()
    record = json.loads(run.find_element(by, "pre").text)
    assert record["settings"]["lr"] == 1e-3 and record["provenance"]["versions"]["torch"]

    def paper(scheme):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        return browser.execute_script("return getComputedStyle(document.body).backgroundColor")

    assert paper("light") != paper("dark")
    browser.set_window_size(500, 900)
    wide = browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0  # tables scroll by themselves, the page does not
    errors = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert not errors, errors


def test_the_verb_works():
    import sys

    out = subprocess.run(
        [sys.executable, "-m", "cl_nvrm", "report", "--help"], capture_output=True, text=True, check=True
    )
    assert "reports/runs" in out.stdout
