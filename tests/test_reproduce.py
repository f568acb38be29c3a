"""Published numbers run again: what is asked for, and what is said of it."""

import importlib
import json
import re
from pathlib import Path

import pytest
import torch

from cl_nvrm.analysis.stats import mean_sd
from cl_nvrm.analysis.verdict import Published, compared
from cl_nvrm.errors import UserError
from cl_nvrm.reproduce import listing, targets
from cl_nvrm.reproduce.__main__ import main
from cl_nvrm.reproduce.conduct import chosen, plan_rows
from cl_nvrm.reproduce.definition import SCORES, Row, Target
from cl_nvrm.reproduce.orders import pairs
from cl_nvrm.reproduce.outcome import as_json, in_short, outcome, published, tables
from cl_nvrm.spec import RunResult
from cl_nvrm.training.train import run_one

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "cl_nvrm" / "reproduce" / "README.md").read_text(encoding="utf-8")
MADE_UP = '''"""Made up: clusters."""

from cl_nvrm.reproduce.definition import Ordering, Row, Target

TARGET = Target(
    about="clusters that move",
    source="nobody 2026",
    runs=10,
    spread="sem",
    data="",
    common="--benchmark toy:tasks=2,samples=64 --epochs 2",
    rows=[
        Row("naive", 50.0, 60.0, "--strategy naive", quick=True),
        Row("ewc", 99.9, 0.01, "--strategy ewc", note="another network"),
        Row("first task", 95.0, None, "--strategy naive", seeds=2, score="mean after task 1"),
        Row("ewc, as theirs", 99.9, 0.01, "--strategy ewc:lambda=1", explains="ewc", note="their lambda"),
    ],
    orderings=[Ordering("first task", "naive"), Ordering("naive", "ewc", equal=True)],
)
'''


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    folder = tmp_path / "targets"
    folder.mkdir()
    (folder / "made_up.py").write_text(MADE_UP)
    monkeypatch.setattr(targets, "__path__", [*targets.__path__, str(folder)])
    monkeypatch.chdir(tmp_path)
    yield folder
    import sys

    for name in [name for name in sys.modules if name.startswith(f"{targets.__name__}.") and "hsu" not in name]:
        sys.modules.pop(name)


@pytest.mark.parametrize("name", listing.names())
def test_the_rows_of_every_target_can_be_planned(name, tmp_path, monkeypatch):
    """On the embedded digits, with the smallest networks; what is published lies within 0 and 100 %."""
    from cl_nvrm.run.flags import parse
    from cl_nvrm.spec import grammar

    found = listing.target(name)
    for row in found.rows:
        assert row.score in SCORES and -100 <= row.mean <= 100
        arguments = parse([*found.common.split(), *row.words.split()])
        for text in arguments.strategy:
            assert len(grammar.grid(text, arguments.flags)) == 1, "a row is one setting"
        term = grammar.parse("benchmarks", arguments.benchmark)
        assert term.name and arguments.trials == 1, "the target says how many seeds"


def test_a_target_is_run_and_compared(made_up, capsys):
    assert "made-up" in listing.names()
    assert main(["made-up", "--jobs", "1", "--quiet", "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    rows = {row["row"]: row for row in found["rows"]}
    assert len(rows["naive"]["ours"]) == 3 and len(rows["first task"]["ours"]) == 2
    assert rows["naive"]["published"] == {"mean": 50.0, "deviation": pytest.approx(60 * 10**0.5), "runs": 10}
    assert rows["naive"]["verdict"]["word"] == "agrees"
    assert rows["first task"]["published"]["runs"] == 1
    for row in rows.values():
        assert row["verdict"]["difference"] == pytest.approx(
            sum(row["ours"]) / len(row["ours"]) - row["published"]["mean"]
        )
    first, equal = found["orderings"]
    assert first["holds"] == (first["difference"] > 0) and equal["holds"] == (abs(equal["difference"]) <= 1)
    written = {path.name for path in Path("reports/reproduce/made-up").iterdir()}
    assert written == {"runs", "table.md", "result.json", "figure.png", "figure.svg"}
    text = Path("reports/reproduce/made-up/table.md").read_text()
    assert "nobody 2026" in text and "another network" in text and "repeats ewc with this: their lambda" in text
    assert "Made by cl\\_nvrm" in text and "--strategy ewc:lambda=1 --benchmark toy:tasks=2" in text
    before = {p: p.stat().st_mtime_ns for p in Path("reports").rglob("runs/*.json")}
    assert main(["made-up", "--jobs", "1", "--quiet"]) == 0
    assert {p: p.stat().st_mtime_ns for p in Path("reports").rglob("runs/*.json")} == before
    assert "of 3 rows agree" in capsys.readouterr().out.replace("\n", " ")


def test_a_dry_run_says_how_long_each_row_takes_and_writes_nothing(made_up, tmp_path, capsys):
    assert main(["made-up", "--dry-run", "--jobs", "1", "--seeds", "2"]) == 0
    out = capsys.readouterr().out
    assert "ewc, as theirs" in out and "2 of 2 to do, about" in out and "6 of 6 runs to do" in out
    assert not (tmp_path / "reports").exists()


def test_rows_can_be_chosen(made_up, tmp_path):
    found = listing.target("made-up")
    assert [row.name for row in chosen(found, texts=["EWC"], quick=False, cut=0)] == ["ewc", "ewc, as theirs"]
    assert [row.name for row in chosen(found, texts=["NAIVE", "as theirs"], quick=False, cut=0)] == [
        "naive",
        "ewc, as theirs",
    ]
    assert [row.name for row in chosen(found, texts=(), quick=True, cut=0)] == ["naive"]
    (cut,) = chosen(found, texts=(), quick=False, cut=1)
    planned = plan_rows(found, [cut], 1, 1, tmp_path, [])
    assert cut.name == "first task" and [spec.first_tasks for spec in planned.plan.specs] == [1]
    whole = plan_rows(found, [cut], 1, 2, tmp_path, []), plan_rows(found, [cut], 1, 0, tmp_path, [])
    assert whole[0].plan.specs == whole[1].plan.specs, "a cut behind the last task cuts nothing"
    with pytest.raises(UserError, match="--rows 'lwf' --quick"):
        chosen(found, texts=["lwf"], quick=True, cut=0)


def test_a_part_of_the_rows_leaves_what_is_written_of_the_others(made_up, capsys):
    assert main(["made-up", "--jobs", "1", "--quiet"]) == 0
    capsys.readouterr()
    whole = Path("reports/reproduce/made-up/result.json").read_text()
    assert main(["made-up", "--jobs", "1", "--quiet", "--rows", "naive"]) == 0
    assert "ewc" not in capsys.readouterr().out
    assert Path("reports/reproduce/made-up/result.json").read_text() == whole
    assert main(["made-up", "--jobs", "1", "--quiet", "--rows", "naive", "--seeds", "4"]) == 0
    rows = {row["row"]: row for row in json.loads(Path("reports/reproduce/made-up/result.json").read_text())["rows"]}
    assert {name: len(row["ours"]) for name, row in rows.items()} == {
        "naive": 4, "ewc": 3, "first task": 2, "ewc, as theirs": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["made-upp"], "did you mean made-up"),
        (["made-up", "hsu-split-mnist", "--out", "x"], "--out is for one target"),
        (["made-up", "--cut", "0"], "at least 1"),
        (["broken"], "target broken: SyntaxError"),
        (["none"], "needs TARGET"),
        (["twice"], "two rows are called 'naive'"),
        (["order"], "an ordering names 'nobody', which no row is called"),
        (["score"], "'first task': there is no score 'accuracy'; there are final accuracy,"),
        (["kind"], "spread is sd or sem, not 'std'"),
        (["nothing"], "'naive': nan is no published number"),
        (["trials"], "'naive': --trials is not for the words of a row"),
        (["help"], "'naive': --help is not for the words of a row"),
        (["tune"], "'naive': --tune is not for the words of a row"),
        (["text"], "'naive': '50' is no published number"),
        (["spread"], "'naive': spread and runs must be at least 0"),
        (["no-words"], "'naive': None is no text"),
        (["itself"], "'ewc, as theirs': it cannot explain itself"),
        (["no-runs"], "it needs a number of runs of at least 1"),
        (["no-rows"], "it has no rows"),
        (["no-row"], "target no-row: AttributeError"),
        (["exits"], "target exits: SystemExit: bye"),
        (["curve", "--jobs", "1", "--quiet"], "'first task': its runs have no training accuracy ("),
        (["several", "--jobs", "1"], "'naive': a row is one setting, its words ask for 2"),
        (["several", "--dry-run"], "'naive': a row is one setting, its words ask for 2"),
        (["later", "--dry-run"], "'first task': mean after task 9 needs 9 tasks, its words ask for 2"),
        (["hsu-split-mnist", "--dry-run"], "target hsu-split-mnist is claimed more than once"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(words, says, made_up, capsys):
    (made_up / "broken.py").write_text("def (")
    (made_up / "none.py").write_text("")
    changed = {
        "twice": ('Row("ewc, as theirs"', 'Row("naive"'),
        "order": ('"naive", "ewc", equal', '"naive", "nobody", equal'),
        "score": ("mean after task 1", "accuracy"),
        "later": ("mean after task 1", "mean after task 9"),
        "kind": ('spread="sem"', 'spread="std"'),
        "nothing": ("50.0, 60.0", 'float("nan"), 60.0'),
        "trials": ('"--strategy naive", quick', '"--strategy naive --trials 4", quick'),
        "several": ('"--strategy naive", quick', '"--strategy naive --strategy si", quick'),
        "help": ('"--strategy naive", quick', '"--strategy naive --help", quick'),
        "tune": ('"--strategy naive", quick', '"--strategy naive --tune=2", quick'),
        "text": ("50.0, 60.0", '"50", 60.0'),
        "spread": ("50.0, 60.0", "50.0, -1"),
        "no_words": ('"--strategy naive", quick', "None, quick"),
        "itself": ('explains="ewc"', 'explains="ewc, as theirs"'),
        "no_runs": ("runs=10", "runs=0"),
        "no_rows": ("rows=[", "rows=[] and ["),
        "no_row": ("rows=[", 'rows=["a",'),
        "exits": ("TARGET =", "raise SystemExit('bye')\nTARGET ="),
        "curve": ("mean after task 1", "training accuracy"),
        "hsu_split_mnist": ("", ""),
    }
    for name, texts in changed.items():
        (made_up / f"{name}.py").write_text(MADE_UP.replace(*texts))
    assert main([]) == 0, "what is wrong with one is no obstacle to the list"
    assert capsys.readouterr().out.count("\n") == len(listing.names())
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("cl_nvrm: ") and says in err and err.count("\n") == 1


def test_a_run_that_diverged_makes_its_row_differ(toy_spec):
    found = Target("", "", 10, "sd", "", "", [Row("a", 50.0, 5.0, ""), Row("b", 50.0, 5.0, "")])
    runs = [RunResult(toy_spec(seed=seed), "done", ((0.5 + 0.01 * seed,),)) for seed in range(4)]
    lost = [RunResult(toy_spec(seed=seed), "diverged", ()) for seed in (4, 5)]
    told = outcome("x", found, {"a": runs, "b": [*runs, *lost]})
    assert [row.word for row in told.rows] == ["agrees", "differs"]
    assert "1 of 2 rows agree" in in_short(told) and "1 with a difference" in in_short(told)
    assert "differs: 2 of 6 runs diverged" in str(tables(told)[0].rows)
    assert as_json(told)["rows"][1]["diverged"] == 2


def test_all_pairs_that_a_publication_tells_apart_are_counted():
    """By hand: a > b and a > c are told apart by three standard errors, b and c are not; the margin hides d."""
    rows = [Row(f"{name}, group", mean, 1.0, "") for name, mean in (("a", 60.0), ("b", 50.0), ("c", 50.1))]
    rows += [Row("d, group", 59.5, 0.01, ""), Row("a, elsewhere", 0.0, 1.0, ""), Row("alone", 0.0, 1.0, "")]
    rows += [Row("b with it, group", 50.0, 1.0, "", explains="b, group")]
    known = [(row, Published(row.mean, row.spread, 10)) for row in rows]
    ours = {row.name: [row.mean - 0.1, row.mean, row.mean + 0.1] for row in rows}
    names = {("a, group", "b, group"), ("a, group", "c, group"), ("d, group", "b, group"), ("d, group", "c, group")}
    found = pairs(known, ours)
    assert {(each.higher, each.lower) for each in found} == names and {each.place for each in found} == {"same"}
    ours |= {"b, group": [64.9, 65.0, 65.1], "c, group": [50.0, 61.0, 72.0]}
    places = {(each.higher[0], each.lower[0]): each.place for each in pairs(known, ours)}
    assert places == {("a", "b"): "reversed", ("a", "c"): "open", ("d", "b"): "reversed", ("d", "c"): "open"}
    assert not pairs(known, {})


def test_other_images_than_the_published_ones_are_refused(made_up, monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("CL_NVRM_DATA", raising=False)
    assert main(["hsu-split-mnist", "--data-dir", str(tmp_path), "--rows", "Adam, task"]) == 3
    assert "mnist" in capsys.readouterr().err


def test_the_standard_deviation_behind_a_standard_error(made_up):
    found = listing.target("made-up")
    assert published(found, found.rows[1]).deviation == pytest.approx(0.01 * 10**0.5)
    assert published(found, found.rows[2]).deviation is None


@pytest.fixture
def their_targets(plug_in):
    """Write a file into a folder that CL_NVRM_PLUGINS might name, where targets are looked for."""

    def write(path, text):
        plug_in(path, text)
        importlib.reload(targets)

    before = list(targets.__path__)
    yield write
    targets.__path__ = before


def test_the_example_of_the_page_is_listed_and_runs_from_a_users_folder(their_targets, tmp_path, monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    their_targets("targets/my_table.py", example)
    monkeypatch.chdir(tmp_path)
    assert main([]) == 0
    assert "my-table                Clusters that move, two methods" in capsys.readouterr().out
    assert main(["my-table", "--jobs", "1", "--quiet", "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert [len(row["ours"]) for row in found["rows"]] == [10] * 4
    assert [row["word"] for row in found["rows"]] == ["agrees", "agrees", "differs", "agrees"], "as the page says"
    assert found["rows"][0]["ours"] != found["rows"][1]["ours"], "scores of the same run"


def test_rows_of_the_same_runs_are_planned_once(made_up, tmp_path, monkeypatch):
    from cl_nvrm.reproduce import conduct

    asked = []
    monkeypatch.setattr(conduct, "plan", lambda *a, plan=conduct.plan: asked.append(a) or plan(*a))
    found = listing.target("made-up")
    rows = [row for row in found.rows if "naive" in row.words]
    planned = plan_rows(found, rows, 2, 0, tmp_path, [])
    assert len(rows) == 2 and len(asked) == 1
    assert planned.specs[rows[0].name] == planned.specs[rows[1].name]


def test_the_page_names_every_target():
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", PAGE, re.MULTILINE)) == set(listing.names())


@pytest.mark.parametrize("name", listing.names())
def test_every_target_says_where_its_numbers_stand_and_how_they_were_made(name):
    text = importlib.import_module(f"{targets.__name__}.{name.replace('-', '_')}").__doc__
    assert "Source: " in text and "As published: " in text


# The right implementation plays the publication, and ours has a fault of the kind that has been published.
CUT = "toy:tasks=5,inputs=8,samples=256,scenario="


def percent(toy_spec, strategy, scenario, seeds):
    specs = [toy_spec(strategy, benchmark=CUT + scenario, epochs=10, lr=0.01, seed=seed) for seed in seeds]
    return [100 * SCORES["final accuracy"].of(run_one(spec, threads=1)) for spec in specs]


def divided_fisher(monkeypatch):
    """EWC's Fisher information divided by the batch size, as squares of a mini-batch's mean gradient are."""
    from cl_nvrm.plugins import ewc

    right = ewc.diagonal_fisher
    monkeypatch.setattr(ewc, "diagonal_fisher", lambda *a, **k: {n: f / 32 for n, f in right(*a, **k).items()})


def no_path(monkeypatch):
    """SI's path integral 0, as far as it may be without an error."""
    from cl_nvrm.plugins.si import SIPlugin

    right = SIPlugin.after_training_exp

    def zeroed(self, strategy, **kwargs):
        self.omega = {name: torch.full_like(omega, 1e-12) for name, omega in self.omega.items()}
        right(self, strategy, **kwargs)

    monkeypatch.setattr(SIPlugin, "after_training_exp", zeroed)


def leaking_head(monkeypatch):
    """The outputs of class-incremental learning cut down to the classes of the task that is tested."""
    from cl_nvrm.training import train

    def leaking(model, test):
        x, y, _ = test.gather(torch.arange(len(test)))
        classes = y.unique()
        with torch.no_grad():
            logits = model.network(x)
        return float((classes[logits[:, classes].argmax(1)] == y).double().mean())

    monkeypatch.setattr(train, "accuracy_on", leaking)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "strategy", "scenario"),
    [(divided_fisher, "ewc:lambda=30", "task"), (no_path, "si:c=10", "task"), (leaking_head, "naive", "class")],
    ids=["EWC", "SI", "leak"],
)
def test_a_wrong_implementation_differs(fault, strategy, scenario, toy_spec, monkeypatch):
    theirs = percent(toy_spec, strategy, scenario, range(10, 20))
    reference = Published(mean_sd(theirs)[0], mean_sd(theirs)[1], len(theirs))
    assert compared(percent(toy_spec, strategy, scenario, range(5)), reference).word == "agrees"
    fault(monkeypatch)
    assert compared(percent(toy_spec, strategy, scenario, range(5)), reference).word == "differs"
