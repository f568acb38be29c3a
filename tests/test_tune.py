import json
from dataclasses import replace
from pathlib import Path

import pytest

from cl_nvrm.errors import UserError
from cl_nvrm.spec import RunResult, catalog
from cl_nvrm.sweep.tune import FIRST_SEED, Budget, Search, ranges, tune
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
    assert len(list((tmp_path / "reports/runs/tuning/runs").glob("*.json"))) == 6
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


def test_searches_of_before_keep_their_names():
    """A committed study finds its journals again, though specs have gained fields since."""
    from cl_nvrm.sweep.store import Store

    folder = ROOT / "reports" / "studies" / "frontier" / "tuned-permuted"
    spec = next(r.spec for r in Store(folder).load()[0] if r.spec.strategy == "naive")
    first = replace(spec, lr=1e-3, chosen="", seed=0)
    assert (folder / "tuning" / f"{Search(first, Budget(16, 3, 10_000), folder / 'none').name}.log").is_file()


def test_looking_a_finished_search_up_writes_nothing(toy_spec, tmp_path):
    spec = toy_spec("nvrm")
    tune([Search(spec, BUDGET, tmp_path)], pretend(3e-4, []))
    (journal,) = tmp_path.glob("*.log")
    before = journal.read_bytes()
    again = Search(spec, BUDGET, tmp_path)
    tune([again], pretend(3e-4, []))
    assert again.chosen(0).chosen and journal.read_bytes() == before
