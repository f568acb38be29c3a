"""What the pages say in numbers follows from the committed runs."""

import json
import re
from pathlib import Path

import pytest

from cl_nvrm.errors import UserError
from cl_nvrm.spec import RunResult, RunSpec
from cl_nvrm.study.__main__ import main
from cl_nvrm.study.claims import check, claims, found
from cl_nvrm.sweep.store import Store

REPORTS = Path(__file__).resolve().parent.parent / "reports"
# Pages all of whose decimals are claims, settings or quotations; that of the frontier follows with its runs.
COMPLETE = [
    "class-incremental",
    "forgetting-mnist",
    "forgetting-split-mnist",
    "generalisation",
    "implicit",
    "randomisation",
    "speed",
    "steadiness",
]
SETTING = r"(?:b|lr|λ|c|p|η|rate|n|variability|momentum|Adam|torch)\s*[=<]?\s*"
QUOTED = {
    "forgetting-mnist": ["34.0 (28.6 to 39.3)", "10.7 (8.7 to 12.6)"],  # of runs that the page says were replaced
    "forgetting-split-mnist": [
        "8.8 (0.5 to 17.1), 0.4 (-3.3 to 4.1) and 3.1 (0.6 to 5.6)",
        "b = 0.003 … 0.05",
    ],
    "class-incremental": [],
    "randomisation": [
        "99.3 to 100 / 10.5 %",  # published
        "0.95 an epoch",  # of the schedule
        "(0.5)",  # dropout
        "(SGD, lr 0.01 or 0.1) and fitted 58 % with Adam at 1e-4",  # of runs that the page says were not kept
        "epoch of 99.9 %",
    ],
    "implicit": [],
    "speed": [
        "1.86 million weights",  # of the network
        "torch\n2.15.0",
        "0.6.0's own",  # Avalanche
        "took 4.4 of the nine directions",  # of a measurement that the page says was not kept
        "0.6 MB of permutations",  # 95 × 784 × 8 bytes
        "1.05 for `nvrm / naive` and 1.5 for ten stacked trials",  # goals
    ],
    "generalisation": [
        "a CNN of 3.1 million multiply-adds",  # of the network, whatever it learns
        "The paper's 0.594 against 0.893",  # Xie et al. 2021
        "(so 0.6 is about",  # 1 - rate
    ],
    "steadiness": [
        # Published: Mao et al. 2022
        *("2.29 ± 0.07", "1.64 ± 0.04", "| 0.65 |", "(2.22 to 1.62 ", "2.19 to 1.64"),
        *("3.09 → 2.80", "2.29 → 1.64", "2.44 → 1.76", "2.87 → 1.98", "3.06 → 1.72"),
        *(" 2.29 |", " 2.27 |", " 2.21 |", " 1.64 |", " 2.22 |", " 1.62 |", " 2.19 |"),
        "within 0.2 points of the published ones",  # a bound
        # Of graphs, whose runs were not kept
        "(a grid of 0.01 to 10 on logits and hidden layer)",
        "84.8 ± 1.5 % with it and 85.1 ± 1.3 % without for GCN (-0.4, 95 % CI -0.9 to 0.1)",
        *("68.6 ± 3.8 against 71.9 ± 2.7", "(-3.4, -6.1 to -0.6)"),
        "(72.5 to 74.0 against 77.5 % on held-out nodes, n = 10), where weight decay 0.1 reached 81.5 %",
    ],
}
SPEC = RunSpec("naive", "toy", "synthetic", "", 0, 1, 32, "adam", 1e-3, 0.0)


@pytest.fixture(scope="module")
def every():
    return claims(REPORTS)


def test_every_claim_of_the_pages_follows_from_the_runs(every):
    assert [problem for claim in every for problem in claim.wrong(claim.page.read_text())] == []
    assert len(every) > 40


@pytest.mark.parametrize("study", COMPLETE)
def test_no_decimal_of_a_page_is_typed_by_hand(study, every):
    page = REPORTS / "studies" / study / "README.md"
    whole = text = page.read_text()
    for claim in every:
        if claim.page == page.resolve():
            for start, end in (match.span() for match in claim.spans(whole)):  # two claims may share a part
                text = text[:start] + " " * (end - start) + text[end:]
    for quoted in QUOTED[study]:
        assert quoted in text
        text = text.replace(quoted, "")
    text = re.sub(r"```.*?```|`[^`\n]*`|\([^()\n]*\.md[^()\n]*\)", "", text, flags=re.DOTALL)
    text = re.sub(SETTING + r"-?\d+(?:\.\d+)?", "", text)
    assert re.findall(r"[^\n]*\d\.\d[^\n]*", text) == []


@pytest.fixture
def page(tmp_path):
    """A folder with runs of two strategies, claims and a page; writes the page with given texts."""
    store = Store(tmp_path / "runs")
    store.prepare()
    for seed in range(4):
        for strategy, kept in (("naive", 0.5), ("nvrm:variability=0.1", 0.625 + 0.005 * seed)):
            spec = RunSpec(**{**vars(SPEC), "strategy": strategy, "seed": seed})
            store.save(RunResult(spec, "done", ((0.9, 0.1), (kept, 0.9))))
    (tmp_path / "claims.toml").write_text(
        'claim = [{ says = "keeps {more.mean:.1f} points ({more.low:.1f} to {more.high:.1f}, n = {more.n}), '
        '{cost.mean:+.2f} at first", '
        'more = { store = "runs", minus = ["nvrm:variability=0.1", "naive"], metric = "base task" }, '
        'cost = { store = "runs", minus = ["nvrm:variability=0.1", "naive"], metric = "base task after 1" } }]'
    )

    def write(text):
        (tmp_path / "README.md").write_text(text)
        return tmp_path

    return write


ONE = """
[[claim]]
says = "{number.mean:.3f}"
number = { store = "runs", cell = "naive", metric = "NAME", times = 1, where = { benchmark = "MIDDLE" } }
"""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("1 - training accuracy", "0.250"),
        ("test accuracy at 1", "0.500"),
        ("test accuracy at best", "0.625"),
        ("1 - test accuracy at best", "0.375"),
        ("variance at 2", "3.000"),
        ("index", "1.500"),
        ("gradient_passes", "40.000"),
        ("train_seconds", "2.000"),
        ("accuracy under 0.05", "0.125"),
    ],
)
def test_a_claim_can_be_of_whatever_a_run_measured(tmp_path, name, value):
    store = Store(tmp_path / "runs")
    store.prepare()
    spec = RunSpec(**{**vars(SPEC), "benchmark": "clean:model=toy,holdout=0"})
    told = [{"by_epoch": {"variance": [4.0, 3.0, 3.5]}, "index": 1.5}]
    curves = {"test accuracy": (0.5, 0.625, 0.5), "training accuracy": (0.5, 0.5, 0.75)}
    result = RunResult(spec, "done", ((0.5,),), (), {"nsr": told}, {"gradient_passes": 40}, 2.0, curves=curves)
    for each in (result, RunResult(RunSpec(**{**vars(spec), "benchmark": "noisy"}), "done", ((0.25,),))):
        store.save(each)
    (tmp_path / "runs" / "perturbed").mkdir()
    answer = [{"scale": 0.0, "accuracies": [0.5]}, {"scale": 0.05, "accuracies": [0.0, 0.25]}]
    (tmp_path / "runs" / "perturbed" / f"{result.id}-0.json").write_text(json.dumps({"curve": answer}))
    (tmp_path / "claims.toml").write_text(ONE.replace("NAME", name).replace("MIDDLE", "model=toy"))
    (tmp_path / "README.md").write_text("0.999")
    assert check(tmp_path, write=True) == [] and (tmp_path / "README.md").read_text() == value


RIGHT = "It keeps 13.2 points (12.2 to 14.3, n = 4), +0.00 at first."


def test_a_number_that_does_not_follow_is_told_and_written(page):
    folder = page(RIGHT.replace("13.2 points", "14.0\npoints"))
    (problem,) = check(folder)
    assert "keeps 14.0 points" in problem and "should have 13.2, 12.2, 14.3, 4, +0.00" in problem
    assert check(folder, write=True) == []
    assert (folder / "README.md").read_text() == RIGHT.replace("13.2 points", "13.2\npoints")
    assert check(page(RIGHT)) == [] and len(check(page(f"{RIGHT} And again: {RIGHT.replace('n = 4', 'n = 5')}"))) == 1


def test_a_sentence_that_is_gone_is_told(page):
    assert "does not say" in check(page("It keeps much."), write=True)[0]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"naive"], metric = "base task" }', '"ewc"], metric = "base task" }', "0 cells called 'ewc'"),
        ("{more.mean", "{less.mean", "no number 'less.mean'"),
        ("{more.mean", "{more.median", "no number 'more.median'"),
        ("claim =", "claims =", "no list of claims"),
        ("[{", "[[{", "no list of claims"),
        ('"base task after 1"', '"memorised"', "no memorised of common seeds"),
    ],
)
def test_a_claim_that_cannot_be_checked_is_said(page, old, new, said):
    folder = page(RIGHT)
    path = folder / "claims.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=re.escape(said)):
        check(folder)


def test_the_command_writes_all_pages_and_trains_nothing(page, monkeypatch, tmp_path, capsys):
    folder = page(RIGHT.replace("12.2", "11.9"))
    monkeypatch.setattr("cl_nvrm.study.__main__.FOLDER", folder / "studies")
    assert main(["--write"]) == 0 and (folder / "README.md").read_text() == RIGHT
    page("Nothing.")
    assert main(["--write"]) == 1 and "does not say" in capsys.readouterr().err


def test_numbers_of_rows_and_of_files(tmp_path):
    rows = [{"what": "a", "ratio": 1.5}, {"what": "b", "ratio": 1.25}]
    (tmp_path / "bench.json").write_text(json.dumps({"rows": rows}))
    row = {"numbers": "bench.json", "key": ["rows", {"what": "b"}]}
    assert found(tmp_path, row).ratio == 1.25
    assert found(tmp_path, {**row, "key": [*row["key"], "ratio"], "times": 100, "plus": -100}) == 25


def test_epochs_errors_and_cells_told_apart_by_several_settings(tmp_path):
    store = Store(tmp_path)
    store.prepare()
    for seed in range(3):
        for benchmark, test, fitted in (("toy:p=0,depth=1", 0.75, 0.999), ("toy:p=1,depth=1", 0.25, 0.9)):
            spec = RunSpec(**{**vars(SPEC), "benchmark": benchmark, "seed": seed})
            training = (0.5, *[0.998] * seed, fitted)
            store.save(RunResult(spec, "done", ((test,),), curves={"training accuracy": training}))
    true, random = ({"benchmark": [f":p={p},", "depth=1"]} for p in (0, 1))
    query = {"store": ".", "cell": "naive", "metric": "epoch of 0.999", "times": 1}
    epoch = found(tmp_path, {**query, "where": true})
    assert (epoch.mean, epoch.sd, epoch.n) == (3, 1, 3)
    assert found(tmp_path, {**query, "where": random, "metric": "epoch of 0.998"}).n == 2
    assert found(tmp_path, {**query, "where": random, "metric": "1 - ACC", "times": 100}).mean == 75
    less = found(tmp_path, {"store": ".", "minus": ["naive", "naive"], "metric": "ACC", "wheres": [true, random]})
    assert (less.mean, less.n) == (50, 3)


def test_runs_that_diverged_count_in_a_difference_as_they_do_in_tables(tmp_path):
    store = Store(tmp_path)
    store.prepare()
    for seed in range(3):
        for strategy, kept in (("naive", 0.5), ("nvrm:variability=0.1", 0.75)):
            spec = RunSpec(**{**vars(SPEC), "strategy": strategy, "seed": seed})
            broken = seed == 2 and strategy != "naive"
            store.save(RunResult(spec, "diverged" if broken else "done", () if broken else ((kept,),)))
    query = {"store": ".", "minus": ["nvrm:variability=0.1", "naive"], "metric": "ACC"}
    more = found(tmp_path, query)
    assert more.n == 3 and more.mean == pytest.approx((25 + 25 - 50) / 3)
    assert found(tmp_path, {"store": ".", "cell": "nvrm:variability=0.1", "metric": "ACC"}).n == 2
