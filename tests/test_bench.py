"""The bench measures what it says, side by side."""

import ast
import importlib
import json
import time
from dataclasses import dataclass

import pytest

from cl_nvrm.bench import commands, whole_run
from cl_nvrm.bench.__main__ import SUBJECTS, main
from cl_nvrm.bench.timing import Setting, alternate, compare
from cl_nvrm.bench.work import work


@dataclass(frozen=True)
class Tiny(Setting):
    """Less than quick."""

    def pick(self, full, quick):
        return min(quick, 600)


def test_cases_take_turns_and_warm_rounds_are_not_counted():
    order = []
    cases = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    samples = alternate(cases, 3, Setting(), warm=1)
    assert order == ["a", "b"] * 4
    assert [len(seconds) for seconds in samples.values()] == [3, 3]


def test_a_case_may_measure_itself():
    assert alternate({"a": lambda: 42.0}, 2, Setting())["a"] == [42.0, 42.0]


def test_a_row_pairs_its_measurements_by_round_and_knows_its_goal():
    samples = {"slow": [2.0, 30.0, 6.0], "fast": [1.0, 10.0, 3.0]}
    row = compare("subject", "slow / fast", samples, "slow", "fast", most=2.5)
    assert (row.ratio, row.n, row.first, row.second) == (2.0, 3, 6.0, 3.0)  # medians of 2, 3, 2
    assert row.low == 2.0 and row.high == 3.0
    assert row.met and not compare("", "", samples, "slow", "fast", most=1.5).met
    assert compare("", "", samples, "slow", "fast", least=1.5).met
    assert compare("", "", samples, "slow", "fast").met is None


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_json(tmp_path, capsys):
    out = tmp_path / "new" / "bench.json"
    assert main(["--quick", "--subject", "fisher", "--data", "digits", "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    assert written["data"] == "digits" and written["quick"] and written["versions"]["torch"]
    assert [row["what"].split()[0] for row in written["rows"]] == ["empirical", "sampled", "exact"]
    for row in written["rows"]:
        assert row["ratio"] == pytest.approx(row["first"] / row["second"]) and row["n"] == 1
    assert "Fisher / one epoch" in capsys.readouterr().out


def test_a_missing_data_set_is_one_line_and_an_exit_code(tmp_path, capsys):
    assert main(["--data", "nonsense", "--out", str(tmp_path / "bench.json")]) != 0
    assert "nonsense" in capsys.readouterr().err and not (tmp_path / "bench.json").exists()


@pytest.mark.slow
def test_stock_avalanche_trains_beside_us():
    rows = whole_run.measure(Tiny(data="digits", quick=True))
    assert rows[0].what == "stock Avalanche / ours, 2 tasks, evaluated"
    assert rows[0].n == 2


@pytest.mark.slow
def test_a_timer_sees_the_steps_and_not_what_happens_once_a_task():
    made = work(Setting(data="digits"), "ewc:samples=300", tasks=2, subset=300)
    start = time.perf_counter()
    steps = made.steps(0)
    assert 0 < steps < time.perf_counter() - start


@pytest.mark.slow
@pytest.mark.parametrize("script", ["FIRST_STEP", "PEAK"])
def test_the_scripts_it_starts_run(script, tmp_path):
    arguments = ["digits", "", "1"] if script == "PEAK" else ["--benchmark", "toy", "--out", str(tmp_path)]
    commands._python("-W", "ignore", "-c", getattr(commands, script), *arguments)  # raises if it fails


@pytest.mark.parametrize("script", ["FIRST_STEP", "PEAK"])
def test_what_its_scripts_import_is_there(script):
    for node in ast.walk(ast.parse(getattr(commands, script))):
        if isinstance(node, ast.ImportFrom):
            assert all(hasattr(importlib.import_module(node.module), alias.name) for alias in node.names)


def test_every_subject_is_a_module_that_measures():
    assert all(callable(importlib.import_module(f"cl_nvrm.bench.{subject}").measure) for subject in SUBJECTS)
