"""``import cl_nvrm as cl``: the commands from Python, what results can be asked, and errors that are exceptions."""

import ast
import inspect
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

import cl_nvrm as cl
from cl_nvrm.run.flags import Arguments, parse
from cl_nvrm.run.keywords import ONLY_IN_A_SHELL, words
from cl_nvrm.training.evaluate import accuracy_on
from cl_nvrm.training.weights import fingerprint

TOY = {"benchmark": "toy:tasks=2,samples=64", "epochs": 1, "jobs": 1, "quiet": True}
DEFAULTS = {name: p.default for name, p in inspect.signature(cl.run).parameters.items() if p.kind is not p.VAR_KEYWORD}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_importing_it_loads_nothing_and_packages_that_are_called_stay_packages():
    code = (
        "import sys, cl_nvrm as cl\n"
        "print([name for name in ('cl_nvrm.run', 'cl_nvrm.spec', 'pandas', 'torch') if name in sys.modules])\n"
        "print(callable(cl.run), cl.run.main.__name__, 'torch' in sys.modules)\n"
        "import cl_nvrm.models, cl_nvrm.run.flags\n"
        "print(callable(cl_nvrm.run), callable(cl_nvrm.models), 'torch' in sys.modules, cl_nvrm.models is cl.models)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines() == [
        "[]",
        "True main False",
        "True True False True",
    ]


def test_type_checkers_see_every_name_there_is():
    tree = ast.parse(Path(cl.__file__).read_text(encoding="utf-8"))
    (seen,) = (
        node for node in tree.body if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    )
    places = {alias.name: node.module for node in seen.body for alias in node.names}
    assert sorted(places) == sorted(cl.__all__) == dir(cl)
    for name, module in places.items():
        there, here = getattr(import_module(module), name), getattr(cl, name)
        assert here is there or inspect.signature(here) == inspect.signature(there)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cl.nothing  # noqa: B018


def test_every_flag_is_a_keyword_with_its_default():
    assert {*DEFAULTS} - {"check"} == {*Arguments.flag_names()} - {*ONLY_IN_A_SHELL}
    assert parse(words({name: value for name, value in DEFAULTS.items() if name != "check"})) == parse([])


def test_it_trains_and_stores_what_the_command_does(cli):
    asked = {"lambda_": [10, 1e3], "lr": np.array([3e-4, 1e-3]), "trials": 2}
    results = cl.run(["naive", "ewc+nvrm"], **TOY, **asked)
    flags = ["--benchmark", TOY["benchmark"], "--epochs", 1, "--jobs", 1, "--lambda", "10|1000", "--lr", "0.0003|0.001"]
    command = [*flags, "--strategy", "naive", "--strategy", "ewc+nvrm", "--trials", 2]
    planned = cli(*command, "--dry-run")[1].splitlines()
    assert [run.id for run in results] == [line.split()[0] for line in planned[:12]]
    code, out, err = cli(*command, "--no-plots")
    assert code == 0 and "12 of 12 runs stored already" in err
    alike = [[line.split() for line in text.splitlines() if "±" in line] for text in (out, str(results))]
    assert alike[0] == alike[1] and len(alike[0]) >= 12  # with their notes on ±1
    assert [run.id for run in cl.load()] == sorted(run.id for run in results) and results.folder == Path("reports/runs")


def test_progress_is_that_of_the_command(capsys):
    cl.run("naive", **TOY | {"quiet": False}, out="here")
    out, err = capsys.readouterr()
    assert not out and "toy: domain-incremental" in err and "run 1 of 1: done" in err and Path("here").is_dir()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return cl.run(["naive", "ewc+nvrm"], **TOY, lambda_=[10, 100], trials=2, out=tmp_path_factory.mktemp("runs"))


def test_a_table_has_a_row_a_run_and_a_column_for_what_differs(results):
    table = results.table()
    assert table.id.tolist() == [run.id for run in results] and len(table) == 6
    assert [*table.columns[:7]] == ["strategy", "method", "benchmark", "dataset", "lr", "seed", "ewc:lambda"]
    assert table["ewc:lambda"].tolist()[2:] == [10, 10, 100, 100] and table["ewc:lambda"].isna().sum() == 2
    assert table.groupby("method").ACC.count().to_dict() == {"naive": 2, "ewc+nvrm": 4}
    assert table.ACC[0] == pytest.approx(sum(results[0].accuracy[-1]) / 2) and "memorised" not in table
    assert "ewc:lambda" not in results.where(lambda run: run.spec.strategy == "naive").table()
    long = results.accuracy()
    assert len(long) == 6 * 2 * 2 and long.accuracy[1] == results[0].accuracy[0][1]
    assert long.iloc[3][["after_task", "task", "id"]].tolist() == [2, 2, results[0].id]


def test_comparisons_are_those_of_the_command_and_stay_within_a_benchmark(results):
    found = results.compare()
    row = found[(found.metric == "ACC") & (found["first"] == "ewc+nvrm") & (found.second == "naive")].iloc[0]
    acc = {(run.strategy, run.seed): run.ACC for run in results.table().itertuples()}
    expected = [acc["ewc+nvrm", seed] - acc["naive", seed] for seed in (0, 1)]
    assert row.difference == pytest.approx(sum(expected) / 2) and row.n == 2 and row.low < row.difference < row.high
    cl.run("naive", **TOY | {"benchmark": "toy:tasks=2,samples=80"}, trials=2, out=results.folder)
    both = cl.load(results.folder)
    assert len(both) == 8 and len(both.compare()) == len(found) and both.compare().benchmark.nunique() == 1
    with pytest.raises(cl.UserError, match="runs of 2 benchmarks"):
        both.plot()
    assert len(both[:3]) == 3 and isinstance(both[:3], cl.Results) and len(both[:0].table()) == 0


def test_figures_by_name_and_what_a_notebook_shows(results):
    assert results.plot().axes[0].get_ylabel() == "Mean accuracy, learned tasks (%)"
    assert results.plot("base_task")._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(cl.UserError, match="No figure 'pie' of these runs; there is base_task, mean_accuracy"):
        results.plot("pie")
    with pytest.raises(cl.UserError, match="no run has finished"):
        results[:0].plot()
    few = results[:4]
    shown = replace(few, folder=Path("<b>"))._repr_html_()
    assert shown.count("<td>ACC</td>") == 1 and "<td>BWT</td>" not in shown
    assert shown.count("<img") == 1 and "&lt;b&gt;" in shown and "<b>" not in shown
    assert "ewc:lambda=10+nvrm" in shown and repr(few) == f"<4 runs of naive, ewc:lambda=10+nvrm, in {few.folder}>"


@pytest.mark.parametrize(
    ("strategy", "benchmark"),
    [
        ("ewc+nvrm", "toy:samples=64"),
        ("naive", "toy:samples=64,heads=true"),
        ("joint", "toy:samples=64,scenario=class"),
    ],
)
def test_a_network_comes_back_with_its_weights(strategy, benchmark):
    run = cl.run(strategy, **TOY | {"benchmark": benchmark}, keep_weights=True)
    model, tests = run.model(0), run.benchmark(0).test
    assert not model.training and fingerprint(model) == run[0].provenance["weights_sha256"]
    assert tuple(accuracy_on(model, test) for test in tests) == run[0].accuracy[-1]
    assert torch.equal(next(run.model(run[0].id).parameters()), next(model.parameters()))


def test_where_there_are_no_weights_it_says_what_to_do(results):
    with pytest.raises(cl.UserError, match=r"weights/\w+\.safetensors; train again with keep_weights"):
        results.model(0)
    for which in (6, "0123456789abcdef"):
        with pytest.raises(cl.UserError, match=f"no run {which} among these 6"):
            results.model(which)


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"strategy": "ewx"}, "Did you mean 'ewc'"),
        ({"lambda_": 3}, "^lambda_ is taken by ewc, .*; write strategy ewc$"),
        ({"strategy": "ewc", "lambda_": [1, "x"]}, "'lambda' of 'ewc' must be a finite number, got 'x'"),
        ({"strategy": "ewc", "lambda_": 1, "lambda": 2}, "lambda_ is given twice"),
        ({"strategy": []}, "strategy takes a value or several"),
        ({"lr": []}, "lr takes a value or several"),
        ({"lr": {"a": 1}}, "lr: must be a finite number of at least 0, got 'a'"),
        ({"lr": b"12"}, "lr must be a number, a text, or several of them"),
        ({"batch_size": 0}, "^batch_size: must be a whole number of at least 1, got '0'"),
        ({"trials": [1, 2]}, r"trials takes one value, got \[1, 2\]"),
        ({"trials": True}, "trials: must be a whole number"),
        ({"trails": 3}, "did you mean trials"),
        ({"fresh": "yes"}, "fresh must be True or False, got 'yes'"),
        ({"tune": 2, "wait": False}, "^wait=False is not for tune"),
        ({"dry_run": True}, "dry_run is for the command line"),
        ({"out": "/dev/null/runs"}, "name another folder with out"),
    ],
)
def test_what_cannot_be_is_an_exception_that_says_what_to_write(keywords, says):
    with pytest.raises(cl.UserError, match=says):
        cl.run(**TOY | keywords)
    assert not Path("reports").exists()


def test_missing_data_and_folders_are_exceptions():
    with pytest.raises(cl.MissingData, match="No data set 'nope'"):
        cl.run(benchmark="permuted-mnist", data="nope", quiet=True)
    with pytest.raises(cl.UserError, match="There is no folder nowhere"):
        cl.load("nowhere")
    with pytest.raises(cl.UserError, match="There are no runs in"):
        cl.load(Path.cwd())


def test_a_run_that_diverges_or_fails_raises_when_all_are_stored(monkeypatch):
    asked = TOY | {"optimizer": "sgd", "lr": [1e-3, 1e30]}
    with pytest.raises(cl.Diverged, match=r"1 of 2 runs diverged \(naive, lr 1e\+30, seed 0: task 1") as problem:
        cl.run("naive", **asked)
    assert problem.value.results.table().status.tolist() == ["done", "diverged"] and len(cl.load()) == 2
    assert "1 unfinished" in repr(cl.run("naive", **asked, check=False))
    monkeypatch.setattr("cl_nvrm.plugins.l1.L1Plugin.before_backward", lambda *_, **__: 1 / 0)
    with pytest.raises(cl.Failed, match=r"1 of 2 runs failed .*ZeroDivisionError") as problem:
        cl.run(["naive", "l1"], **TOY)
    assert [run.status for run in problem.value.results] == ["done", "failed"]


def test_a_spec_is_its_run(results):
    spec = results[2].spec
    by_hand = replace(spec, strategy="nvrm + ewc:lambda=1e1", dataset="toy")
    again = cl.run(by_hand, jobs=1, quiet=True, out=results.folder)
    assert again[0] == results[2]
    for changes, says in (
        ({"chosen": "by hand"}, "one of a search's"),
        ({"lr": -1.0}, "lr of a spec must be"),
        ({"dataset_sha256": "0" * 16}, "makes its own data"),
    ):
        with pytest.raises(cl.UserError, match=says):
            cl.run(replace(spec, **changes), quiet=True)
    with pytest.raises(cl.UserError, match="a spec says what its benchmark is"):
        cl.run(spec, benchmark="toy")


def test_lists_say_types_and_choices_and_show_in_a_notebook(plug_in):
    plug_in("schedules/odd.py", '"""As <b> says."""\n\n\ndef schedule(*, most: float = 0.5): ...\n')
    plug_in("schedules/broken.py", "def schedule(*, most): ...\n")
    listed = cl.schedules()
    assert listed["odd"].parameters["most"].default == 0.5 and "    most = 0.5  (float)" in str(listed).splitlines()
    assert "needs a default" in listed["broken"].summary
    assert "As &lt;b&gt; says." in listed._repr_html_()
    fisher = cl.strategies()["ewc"].parameters["fisher"]
    assert (fisher.default, fisher.type, fisher.choices[:2]) == ("exact", "str", ("exact", "sampled"))
    assert {"toy"} < {*cl.benchmarks()} and {"mlp"} < {*cl.models()} and {"adam"} < {*cl.optimizers()}


@pytest.mark.slow
def test_a_plain_script_may_use_workers(tmp_path):
    """Without ``if __name__ == "__main__"``: workers do not import it."""
    (tmp_path / "script.py").write_text(
        "import cl_nvrm as cl\n"
        "print('imported')\n"
        "results = cl.run('naive', benchmark='toy', trials=2, jobs=2, out='runs')\n"
        "print(len(results), {run.status for run in results})\n"
    )
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.stdout == "imported\n2 {'done'}\n", done.stderr
