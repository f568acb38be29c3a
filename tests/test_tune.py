import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cl_nvrm.errors import UserError
from cl_nvrm.spec import RunResult, catalog
from cl_nvrm.sweep.tune import FIRST_SEED, Budget, Search, best_of, ranges, tune
from cl_nvrm.training.build import build_benchmark

ROOT = Path(__file__).resolve().parent.parent
BUDGET = Budget(trials=10, tasks=2, holdout=80)


def pretend(best_lr, heard):
    """Runs that are better the nearer their learning rate is to the best."""

    def run(specs):
        heard.extend(specs)
        return [RunResult(s, "done", ((0.5, 0.5), (1 / (1 + abs(s.lr / best_lr - 1)),) * 2)) for s in specs]

    return run


def test_every_strategy_gets_the_same_budget_and_sees_held_out_points_of_the_first_tasks_only(toy_spec, tmp_path):
    specs = [toy_spec(name) for name in ("naive", "ewc+nvrm")]
    searches, heard = [Search(spec, BUDGET, tmp_path) for spec in specs], []
    tune(searches, pretend(3e-4, heard))
    for spec, search in zip(specs, searches, strict=True):
        assert len(search.study.trials) == BUDGET.trials
        own = [s for s in heard if s.strategy.count("+") == spec.strategy.count("+")]
        assert len(own) == BUDGET.trials
        assert own[0].strategy == spec.strategy and own[0].lr == spec.lr  # the first is what was asked for
    assert all("holdout=80" in s.benchmark and s.first_tasks == 2 and s.seed >= FIRST_SEED for s in heard)


def test_the_chosen_spec_says_how_and_is_a_run_of_its_own(toy_spec, tmp_path):
    spec = toy_spec("nvrm")
    search = Search(spec, BUDGET, tmp_path)
    tune([search], pretend(3e-4, []))
    chosen = search.chosen(seed=7)
    best = max(search.study.trials, key=lambda trial: trial.value)
    assert chosen.lr == pytest.approx(best.params["lr"], rel=0.01)
    assert chosen.benchmark == spec.benchmark and chosen.first_tasks == 0 and chosen.seed == 7
    assert "10 trials" in chosen.chosen and "80 held-out" in chosen.chosen and "first 2 tasks" in chosen.chosen
    assert chosen.id != replace(chosen, chosen="").id


class Killed(BaseException):
    pass


def test_a_search_that_was_stopped_goes_on_to_the_same_choice(toy_spec, tmp_path):
    spec = toy_spec("ewc")
    whole, heard = Search(spec, BUDGET, tmp_path / "whole"), []
    tune([whole], pretend(1e-3, heard))
    rounds = []

    def killed(specs):
        rounds.append(specs)
        if len(rounds) == 2:
            raise Killed
        return pretend(1e-3, [])(specs)

    with pytest.raises(Killed):
        tune([Search(spec, BUDGET, tmp_path / "stopped")], killed)
    again, rest = Search(spec, BUDGET, tmp_path / "stopped"), []
    tune([again], pretend(1e-3, rest))
    assert rest == heard[4:] and again.chosen(0) == whole.chosen(0)
    once_more = []
    tune([Search(spec, BUDGET, tmp_path / "stopped")], pretend(1e-3, once_more))
    assert once_more == []


def test_a_trial_that_diverges_counts_as_nothing_learned_and_one_that_fails_ends_the_search(toy_spec, tmp_path):
    search = Search(toy_spec(), BUDGET, tmp_path / "a")
    tune([search], lambda specs: [RunResult(s, "diverged") for s in specs])
    assert search.study.best_value == 0
    with pytest.raises(UserError, match="a trial failed"):
        tune(
            [Search(toy_spec(), BUDGET, tmp_path / "b")],
            lambda specs: [RunResult(s, "failed", error="oh no") for s in specs],
        )


def test_what_is_searched_comes_from_the_strategies_files(toy_spec):
    assert ranges(toy_spec("ewc+nvrm")).keys() == {"lr", "ewc:lambda", "nvrm:variability"}
    for name in catalog.names("strategies"):
        catalog.search(catalog.maker("strategies", name))


def test_more_held_out_points_than_there_are_is_refused(toy_spec):
    with pytest.raises(UserError, match="lie within"):
        build_benchmark(replace(toy_spec(), benchmark="toy:holdout=600"), None, "cpu")


def test_held_out_toy_points_are_training_points_that_are_not_trained_on():
    build = catalog.maker("benchmarks", "toy")
    whole, held = build(seed=0), build(seed=0, holdout=100)
    rows = {tuple(x.tolist()) for x in whole.train[0].images}
    train, test = ({tuple(x.tolist()) for x in task.images} for task in (held.train[0], held.test[0]))
    assert train | test == rows and not train & test and len(test) == 100


def test_the_command_tunes_and_records_it(cli, tmp_path):
    arguments = (
        "--benchmark", "toy", "--jobs", 1, "--strategy", "naive", "--strategy", "ewc+nvrm", "--tune", 3, "--no-plots",
        "--quiet", "--format", "json",
    )  # fmt: skip
    code, out, err = cli(*arguments)
    assert code == 0, err
    runs = json.loads(out)["runs"]
    stored = [json.loads((tmp_path / "reports/runs" / f"{r['id']}.json").read_text())["spec"] for r in runs]
    assert all("by 3 trials of TPE on 85 held-out" in spec["chosen"] for spec in stored)
    assert len(list((tmp_path / "reports/runs/tuning/runs").glob("*.json"))) == 2 * 3 * 3
    assert cli(*arguments)[1] == out
    for words, says in (
        (("--strategy", "ewc:lambda=1|2"), "give it once"),
        (("--lr", "1e-3|1e-4"), "one value to start from"),
    ):
        code, _, err = cli("--benchmark", "toy", "--tune", 3, *words)
        assert code == 2 and says in err


def test_a_smaller_budget_later_chooses_among_as_many_trials_for_all(toy_spec, tmp_path):
    search = Search(toy_spec(), replace(BUDGET, trials=12), tmp_path)
    tune([search], pretend(3e-4, []))
    fewer, heard = Search(toy_spec(), replace(BUDGET, trials=5), tmp_path), []
    tune([fewer], pretend(3e-4, heard))
    best = max(fewer.study.trials[:5], key=lambda trial: trial.value)
    assert heard == [] and "by 5 trials" in fewer.chosen(0).chosen
    assert fewer.chosen(0).lr == pytest.approx(best.params["lr"], rel=0.01)


def test_a_damaged_journal_and_a_start_of_nothing_are_said_in_a_line(toy_spec, tmp_path):
    Search(toy_spec(), BUDGET, tmp_path)
    (journal,) = tmp_path.glob("*.log")
    journal.write_text(journal.read_text()[:-20] + "{{{\n" + "x\n")
    with pytest.raises(UserError, match="Cannot use the tuning journal"):
        Search(toy_spec(), BUDGET, tmp_path)
    with pytest.raises(UserError, match="start above 0"):
        Search(toy_spec("nvrm:variability=0"), BUDGET, tmp_path)


def test_two_searches_at_once_end_with_one_budget(toy_spec, tmp_path):
    from threading import Thread

    found = []

    def search():
        one = Search(toy_spec(), BUDGET, tmp_path)
        tune([one], pretend(3e-4, []))
        found.append(one.chosen(0))

    threads = [Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and found[0] == found[1]
    assert "by 10 trials" in found[0].chosen


def test_searches_of_before_keep_their_names(tmp_path):
    """A committed study finds its journals again, though specs have gained fields since."""
    from cl_nvrm.sweep.store import Store

    folder = ROOT / "reports" / "studies" / "frontier" / "tuned-permuted"
    spec = next(r.spec for r in Store(folder).load()[0] if r.spec.strategy == "naive")
    first = replace(spec, lr=1e-3, chosen="", seed=0)
    assert (folder / "tuning" / f"{Search(first, Budget(16, 3, 10_000), tmp_path).name}.log").is_file()


def test_looking_a_finished_search_up_writes_nothing(toy_spec, tmp_path):
    spec = toy_spec("nvrm")
    tune([Search(spec, BUDGET, tmp_path)], pretend(3e-4, []))
    (journal,) = tmp_path.glob("*.log")
    before = journal.read_bytes()
    again = Search(spec, BUDGET, tmp_path)
    tune([again], pretend(3e-4, []))
    assert again.chosen(0).chosen and journal.read_bytes() == before


def test_several_searches_start_apart_and_the_best_of_all_is_taken(toy_spec, tmp_path):
    spec = toy_spec("nvrm")
    searches, heard = [Search(spec, BUDGET, tmp_path, number) for number in range(3)], []
    tune(searches, pretend(3e-4, heard))
    assert Search(spec, BUDGET, tmp_path).name == searches[0].name, "the first is the search there was before"
    starts = [search.study.trials[0].params["lr"] for search in searches]
    assert starts[0] == spec.lr and len(set(starts)) == 3
    best = best_of(searches)
    assert best.best.value == max(search.best.value for search in searches)
    chosen = best.chosen(0, searches)
    least = min(search.best.value for search in searches)
    assert f"the worst of 3 searches {least:.4f}" in chosen.chosen and chosen.lr == pytest.approx(best.chosen(0).lr)
    for search in searches:
        curve = search.best_so_far()
        assert len(curve) == BUDGET.trials and curve == sorted(curve) and curve[-1] == search.best.value


def test_a_search_on_another_data_set_chooses_there_and_reports_here(toy_spec, tmp_path):
    spec, heard = toy_spec("nvrm"), []
    search = Search(spec, BUDGET, tmp_path, on=("other", "abc"))
    tune([search], pretend(3e-4, heard))
    assert {(s.dataset, s.dataset_sha256) for s in heard} == {("other", "abc")}
    chosen = search.chosen(0)
    assert chosen.dataset == spec.dataset and "on other, 80 held-out" in chosen.chosen
    assert search.name != Search(spec, BUDGET, tmp_path).name


def test_a_search_says_why_it_may_not_have_found_the_best(toy_spec, tmp_path):
    search = Search(toy_spec("ewc+nvrm"), BUDGET, tmp_path)
    tune([search], pretend(search.spec.lr, []))  # the start is best
    few, start = search.doubts()
    assert few == "10 trials are few for 3 values, 30 would do" and start == "no trial was better than the start"
    edge = Search(toy_spec(), replace(BUDGET, trials=40), tmp_path)
    tune([edge], lambda specs: [RunResult(s, "done", ((0.5, 0.5), (1 / (1 + 100 * s.lr),) * 2)) for s in specs])
    low, high = edge.ranges["lr"]
    told = f"lr {edge.chosen(0).lr:g} lies at the edge of what is searched, {low:g} to {high:g}"
    assert edge.doubts() == [told] and edge.chosen(0).lr < 1.1 * low
    plain = Search(toy_spec(), replace(BUDGET, trials=20), tmp_path / "plain")
    tune([plain], pretend(plain.spec.lr / 5, []))
    assert plain.doubts() == []


def test_the_command_tunes_on_all_tasks_with_three_seeds_and_draws_what_a_budget_buys(cli, tmp_path):
    words = ["--benchmark", "toy:tasks=2,samples=120", "--jobs", 1, "--strategy", "nvrm", "--tune", 2, "--quiet"]
    code, _, err = cli(*words, "--tune-searches", 2, "--format", "json")
    assert code == 0 and "2 trials are few for 2 values, 20 would do" in err
    runs = [json.loads(path.read_text()) for path in (tmp_path / "reports/runs/tuning/runs").glob("*.json")]
    assert len(runs) == 2 * 2 * 3 and {len(run["accuracy"]) for run in runs} == {2}
    assert (tmp_path / "reports/runs/figures/tuning.png").is_file()
    (spec,) = (json.loads(path.read_text())["spec"] for path in (tmp_path / "reports/runs").glob("*.json"))
    assert "first 2 tasks, 3 seeds" in spec["chosen"] and "the worst of 2 searches" in spec["chosen"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tune-on", "digits"], "--tune-on is for --tune"),
        (["--tune-searches", "2"], "--tune-searches is for --tune"),
        (["--tune", "2", "--tune-on", "digits"], "makes its own data"),
        (["--tune", "2", "--tune-on", "nothing", "--benchmark", "split-mnist", "--data", "digits"], "nothing"),
    ],
)
def test_what_cannot_be_tuned_on_is_said(words, said, cli, tmp_path):
    code, _, err = cli("--benchmark", "toy", "--jobs", 1, "--no-plots", *words)
    assert code in (2, 3) and said in err, err
    assert not (tmp_path / "reports").exists()


def test_the_command_tunes_on_another_data_set(cli, tmp_path):
    folder = tmp_path / "data" / "other"
    rng = np.random.default_rng(0)
    for part, count in (("train", 60), ("test", 20)):
        for label in range(10):
            place = folder / part / str(label)
            place.mkdir(parents=True)
            for number in range(count // 10):
                Image.fromarray(rng.integers(0, 256, (28, 28)).astype(np.uint8)).save(place / f"{number}.png")
    words = (
        "--benchmark",
        "permuted-mnist:width=8,depth=1,tasks=2,subset=40",
        "--data",
        "digits",
        "--data-dir",
        "data",
    )
    code, _, err = cli(
        *words, "--jobs", 1, "--no-plots", "--quiet", "--tune", 2, "--tune-seeds", 1, "--tune-on", "other"
    )
    assert code == 0, err
    told = [json.loads(p.read_text())["spec"] for p in (tmp_path / "reports/runs/tuning/runs").glob("*.json")]
    assert {spec["dataset"] for spec in told} == {"other"} and all("holdout=10" in spec["benchmark"] for spec in told)
    (spec,) = (json.loads(path.read_text())["spec"] for path in (tmp_path / "reports/runs").glob("*.json"))
    assert spec["dataset"] == "digits" and "on other, 10 held-out" in spec["chosen"]
