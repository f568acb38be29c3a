import json
from dataclasses import replace

import numpy as np
import pytest

import cl_nvrm as cl
from cl_nvrm.analysis.choice import Choice, choose
from cl_nvrm.analysis.comparisons import cells
from cl_nvrm.analysis.equal_plasticity import kept_at, on_fresh_runs
from cl_nvrm.analysis.frontier import families
from cl_nvrm.errors import UserError
from cl_nvrm.report.__main__ import main as report
from cl_nvrm.spec import RunResult, RunSpec
from cl_nvrm.spec.cell_names import cell_names
from cl_nvrm.sweep.store import Store

SPEC = RunSpec("naive", "toy", "synthetic", "", 0, 1, 32, "adam", 1e-3, 0.0)
MEANS = {
    ("naive", 1.0): (0.80, 0.90),
    ("naive", 2.0): (0.90, 0.80),
    ("naive", 3.0): (0.70, 0.70),
    ("nvrm:variability=0.1", 1.0): (0.84, 0.93),
    ("nvrm:variability=0.1", 2.0): (0.92, 0.82),
}


def runs(seeds, means=MEANS, spread=0.004, benchmark="toy", seed=0):
    """Runs of two tasks with given mean learning accuracy and accuracy kept, the errors of which are correlated."""
    generator = np.random.default_rng([seed, *seeds])
    results = []
    for (strategy, lr), (x, y) in means.items():
        for number in seeds:
            dx, dy = generator.normal(0, spread, size=2) @ [[1, -1], [0, 2]]
            spec = replace(SPEC, strategy=strategy, lr=lr, benchmark=benchmark, seed=number)
            results.append(RunResult(spec, "done", ((x + dx, 0.1), (y + dy, x + dx))))
    return results


def named(results):
    return cells(results, cell_names(r.spec for r in results))


@pytest.fixture
def choice():
    return choose(families(named(runs(range(10)))), SPEC, [0.86, 0.89])


def test_a_choice_holds_two_settings_a_family_and_level_and_what_chose_them(choice):
    def ends(name, chosen=choice):
        return [mixture and (mixture.first, mixture.second) for mixture in chosen.families[name]]

    assert ends("naive") == [(("naive", 1.0), ("naive", 2.0))] * 2
    assert ends("nvrm") == [(("nvrm:variability=0.1", 1.0), ("nvrm:variability=0.1", 2.0))] * 2
    assert choice.contrasts == (("nvrm", "naive"),) and choice.seeds == tuple(range(10))
    assert len(choice.settings) == 4
    by_family = families(named(runs(range(10))))
    below = choose(by_family, SPEC, [0.5])
    assert ends("naive", below) == [(("naive", 1.0),) * 2] and below.families["naive"][0].slope == 0
    assert ends("naive", choose(by_family, SPEC, [0.99])) == [None]


def test_a_choice_is_read_as_it_was_written(choice, tmp_path):
    assert Choice.from_json(choice.to_json()) == choice
    edited = json.loads(choice.to_json())
    wrong = [
        edited | {"levels": ["0.86", 0.89]},
        edited | {"levels": [0.86, 0.89, 0.9]},
        edited | {"levels": [0.86, 1e308]},
        edited | {"families": {}},
        edited | {"families": {"nvrm": edited["families"]["nvrm"]}},
        edited | {"more": 1},
    ]
    for text in ("", "[]", "{}", choice.to_json().replace('"levels"', '"level"'), *map(json.dumps, wrong)):
        with pytest.raises(ValueError, match="no choice of settings"):
            Choice.from_json(text)
    store = Store(tmp_path)
    store.prepare()
    store.keep(choice)
    store.keep(choice)
    assert store.choices() == [choice] and store.load() == ([], {})
    with pytest.raises(UserError, match="holds other settings"):
        store.keep(replace(choice, levels=(0.85, 0.89)))
    assert store.choices() == [choice]


def test_a_damaged_choice_is_said_and_left_out(choice, tmp_path, capsys):
    store = Store(tmp_path)
    store.prepare()
    store.keep(choice)
    (path,) = (tmp_path / "frontier").glob("*.json")
    path.write_text(path.read_text()[:40])
    assert store.choices() == [] and "is left out" in capsys.readouterr().err


def test_the_difference_at_equal_plasticity_is_that_of_the_lines_between_means():
    choice = choose(families(named(runs(range(10), spread=0.0))), SPEC, [0.86, 0.89])
    every = named(runs(range(100, 130), spread=0.0))
    whole, *rows = on_fresh_runs(choice, every)
    # naive: 0.90 - (x - 0.80); nvrm: 0.93 - 1.375 (x - 0.84)
    assert [row.found.mean for row in rows] == [pytest.approx(0.9025 - 0.84), pytest.approx(0.86125 - 0.81)]
    assert whole.level is None and whole.found.mean == pytest.approx((0.0625 + 0.05125) / 2)
    assert whole.found.n == 30 and not whole.primary


def test_a_seed_is_taken_to_the_level_along_the_line_that_chose(choice):
    every = {(c.spec.strategy, c.spec.lr): c for c in named(runs(range(100, 112)))}
    mixture = choice.families["naive"][0]
    found = kept_at(mixture, every, 0.86, range(100, 112))
    low, high = every["naive", 1.0], every["naive", 2.0]
    for seed in range(100, 112):
        x0, x1 = (c.values("learning accuracy")[seed] for c in (low, high))
        y0, y1 = (c.values("kept accuracy")[seed] for c in (low, high))
        x, y = x0 + mixture.share * (x1 - x0), y0 + mixture.share * (y1 - y0)
        assert found[seed] == pytest.approx(y + mixture.slope * (0.86 - x))
    assert 0.5 < mixture.share < 0.7 and mixture.slope == pytest.approx(-1, abs=0.1)


def test_settings_that_lie_elsewhere_on_fresh_seeds_make_no_absurd_values(choice):
    """Both plasticities on one side of the level, near each other and in the other order."""
    shifted = {setting: (0.91 + 0.001 * k, 0.8) for k, setting in enumerate(MEANS)}
    rows = on_fresh_runs(choice, named(runs(range(100, 110), shifted, spread=0.01)))
    assert all(abs(row.difference) < 0.1 for row in rows)


def test_seeds_that_chose_are_not_judged(choice):
    results = [*runs(range(10)), *runs(range(100, 106))]
    assert {row.found.n for row in on_fresh_runs(choice, named(results))} == {6}
    with pytest.raises(UserError, match="0 fresh seeds in common"):
        on_fresh_runs(choice, named(runs(range(10))))


def test_a_single_level_is_the_primary_row_and_one_out_of_reach_is_refused():
    by_family = families(named(runs(range(10))))
    one = choose(by_family, SPEC, [0.86])
    (row,) = on_fresh_runs(one, named(runs(range(100, 110))), [("nvrm", "naive")])
    assert row.primary and row.level == 0.86
    beyond = choose(by_family, SPEC, [0.86, 0.915])
    assert beyond.families["naive"][1] is None and beyond.families["nvrm"][1]
    assert [row.level for row in on_fresh_runs(beyond, named(runs(range(100, 110))))] == [0.86]
    with pytest.raises(UserError, match="out of reach"):
        on_fresh_runs(beyond, named(runs(range(100, 110))), [("nvrm", "naive")])


def test_families_are_compared_with_plain_training_whatever_the_order_of_files():
    results = runs(range(10))
    assert list(families(named(results[::-1]))) == ["naive", "nvrm"]


@pytest.mark.parametrize("n", [10, pytest.param(30, marks=pytest.mark.slow)])
def test_intervals_at_equal_plasticity_cover_and_stars_are_wrong_as_often_as_they_say(choice, n):
    """Where plasticity is as uncertain as what is kept; the true difference is known, and none in the second case."""
    true = 0.0625
    alike = {
        ("naive", 1.0): (0.80, 0.90),
        ("naive", 2.0): (0.90, 0.80),
        ("nvrm:variability=0.1", 1.0): (0.84, 0.86),
        ("nvrm:variability=0.1", 2.0): (0.92, 0.78),
    }
    covered, wrong, any_wrong, trials = 0, 0, 0, 250
    for trial in range(trials):
        first = on_fresh_runs(choice, named(runs(range(100, 100 + n), spread=0.01, seed=trial)))[1]
        covered += first.found.t[0] <= true <= first.found.t[1]
        rows = on_fresh_runs(
            choice, named(runs(range(100, 100 + n), alike, spread=0.01, seed=1000 + trial)), [("nvrm", "naive")]
        )
        wrong += rows[0].primary and rows[0].p_adjusted < 0.05
        any_wrong += any(row.p_adjusted < 0.05 for row in rows[1:])
    assert covered / trials == pytest.approx(0.95, abs=0.03)
    assert wrong / trials < 0.08 and any_wrong / trials < 0.08  # 0.05 and two standard errors


def test_a_primary_contrast_is_not_adjusted_and_the_others_are(choice):
    every = named(runs(range(100, 108)))
    plain = on_fresh_runs(choice, every)
    whole, *rows = on_fresh_runs(choice, every, [("nvrm", "naive")])
    assert whole.primary and whole.level is None and whole.p_adjusted == whole.found.p
    assert not any(row.primary for row in rows) and [row.level for row in rows] == [0.86, 0.89]
    assert all(row.p_adjusted >= row.found.p for row in plain)
    with pytest.raises(UserError, match="'nvrm - naive'"):
        on_fresh_runs(choice, every, [("naive", "nvrm")])


def test_a_diverged_run_keeps_nothing_and_missing_runs_are_said(choice):
    results = runs(range(100, 108))
    broken = [
        replace(r, status="diverged") if r.spec.strategy != "naive" and r.spec.seed == 100 else r for r in results
    ]
    row = on_fresh_runs(choice, named(broken))[0]
    assert row.found.n == 8 and row.diverged == 2 and row.found.values[100] < -0.8 and row.found.mean < 0
    assert row.p_adjusted > 0.05, "seven better seeds earn no praise"
    with pytest.raises(UserError, match="1 of 4 settings"):
        on_fresh_runs(choice, named([r for r in results if (r.spec.strategy, r.spec.lr) != ("naive", 2.0)]))


def test_the_page_tests_what_was_chosen_on_other_runs_and_only_that(choice, tmp_path):
    for folder, results in (("grid", runs(range(10))), ("fresh", runs(range(100, 110)))):
        store = Store(tmp_path / folder)
        store.prepare()
        for result in results:
            store.save(result)
    Store(tmp_path / "fresh").keep(choice)
    texts = {}
    for folder in ("grid", "fresh"):
        words = ["--primary", "nvrm - naive"] if folder == "fresh" else []
        assert report([str(tmp_path / folder), "--out", str(tmp_path / folder / "page"), *words]) == 0
        texts[folder] = (tmp_path / folder / "page" / "tables" / "tables.md").read_text()
    assert "At equal plasticity, untested" in texts["grid"] and "--frontier FOLDER" in texts["grid"]
    assert "primary: nvrm - naive | mean of levels" in texts["fresh"] and "named before the runs" in texts["fresh"]
    assert texts["fresh"].count("primary:") == 1, "what was named is one contrast"
    one = next((tmp_path / "fresh").glob("*.json"))
    for path in (tmp_path / "fresh").glob("*.json"):
        if json.loads(path.read_text())["spec"]["lr"] == 2.0:
            path.unlink()
    assert report([str(tmp_path / "fresh"), "--out", str(tmp_path / "page")]) == 0 and one
    assert "Not complete: 2 of 4 settings" in (tmp_path / "page" / "tables" / "tables.md").read_text()


def test_the_main_command_runs_the_settings_of_a_frontier_on_fresh_seeds(cli, tmp_path):
    words = ["--benchmark", "toy:tasks=2,samples=128", "--jobs", "1", "--quiet", "--no-plots"]
    strategies = ["--strategy", "naive", "--strategy", "nvrm:variability=0.01|0.1", "--lr", "0.01|0.1|0.3"]
    code, _, err = cli(*words, *strategies, "--seed", "50", "--trials", "3", "--out", "grid")
    assert code == 0, err
    fresh = [*words, "--frontier", "grid", "--out", "fresh", "--primary", "nvrm - naive"]
    code, _, err = cli(*fresh, "--out", "grid", "--trials", "2", "--dry-run")
    assert code == 2 and "folders of their own" in err
    code, _, err = cli(*fresh, "--trials", "1", "--dry-run")
    assert code == 2 and "at least 2" in err
    for wrong, said in (("naive - nvrm", "has no contrast"), ("nvrm - naive: BWT", "leave out the metric")):
        code, _, err = cli(*fresh[:-1], wrong, "--trials", "2", "--dry-run")
        assert code == 2 and said in err
    code, _, err = cli(*fresh, "--seed", "52", "--trials", "2")
    assert code == 2 and "seed 52 is one of the runs" in err and "from 53" in err
    code, out, err = cli(*fresh, "--trials", "2", "--format", "json")
    assert code == 0, err
    told = json.loads(out)
    (found,) = Store(tmp_path / "fresh").choices()
    assert {(r["strategy"], r["spec"]["lr"]) for r in told["runs"]} == set(found.settings)
    assert told["at_equal_plasticity"][0]["primary"] and found.seeds == (50, 51, 52)
    asked = {"benchmark": words[1], "primary": "nvrm - naive", "trials": 2, "jobs": 1, "quiet": True, "out": "fresh"}
    in_python = cl.run(frontier="grid", **asked)
    assert [run.id for run in in_python] == [run["id"] for run in told["runs"]]
    assert len(in_python.at_equal_plasticity()) == len(told["at_equal_plasticity"])
    near = [*words, "--frontier", "grid", "--out", "near", "--slack", "100", "--trials", "4", "--seed", "60"]
    code, out, err = cli(*near, "--format", "json")
    assert code == 0 and len(json.loads(out)["runs"]) == 4 * 9, err
    code, out, err = cli(*near[:-6], "--trials", "1", "--slack", "0.0001", "--dry-run")
    assert code == 0 and 2 <= len(out.splitlines()) - 1 < 9, err
    assert Store(tmp_path / "near").choices() == []
    code, _, err = cli(*fresh, "--trials", "2", "--levels", "12|20")
    assert code == 2 and "holds other settings or levels" in err
    code, _, err = cli(*fresh[:-4], "--out", "third", "--trials", "2", "--levels", "100")
    assert code == 2 and "no two methods" in err and not (tmp_path / "third").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--frontier", "nowhere"], "There is no folder"),
        (["--frontier", ".", "--strategy", "naive"], "leave out --strategy"),
        (["--frontier", ".", "--lr", "0.1"], "leave out --strategy"),
        (["--frontier", ".", "--tune", "2"], "leave out --strategy"),
        (["--levels", "95"], "--levels is for --frontier"),
        (["--slack", "1"], "--slack is for --frontier"),
        (["--frontier", ".", "--slack", "1", "--levels", "95"], "write one of them"),
        (["--frontier", "."], "has no runs of toy"),
        (["--primary", "nvrm"], "is no contrast"),
        (["--primary", "nvrm - naive: FTW"], "is no contrast"),
        (["--primary", "nvrm - naive", "--trials", "2"], "there is no single 'nvrm' for 'nvrm - naive'"),
        (["--primary", "nvrm - naive"], "--trials of at least 2"),
        (["--frontier", ".", "--levels", "0.95"], "in %, above 1"),
        (["--margin", "0"], "finite number"),
    ],
)
def test_what_a_frontier_cannot_be_made_of_is_said(words, said, cli, tmp_path):
    code, _, err = cli("--benchmark", "toy", "--jobs", "1", "--quiet", "--no-plots", "--out", "out", *words)
    assert code == 2 and said in err, err
    assert not (tmp_path / "out").exists()
