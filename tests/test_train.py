import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cl_nvrm.bench.timing import Setting
from cl_nvrm.bench.work import spec
from cl_nvrm.spec import catalog
from cl_nvrm.training.build import build_benchmark
from cl_nvrm.training.evaluate import accuracy_on
from cl_nvrm.training.train import run_one


def orders(text):
    return ["+".join(order) for order in itertools.permutations(text.split("+"))]


@pytest.mark.parametrize("text", ["ewc+nvrm", "si+nvrm", "ewc+si+nvrm"])
def test_every_order_of_a_sum_is_the_same_run_and_the_same_bits(text, toy_spec, toy_bits):
    assert len({toy_spec(order).id for order in [*orders(text), f"naive+{text}"]}) == 1
    assert len({toy_bits(order) for order in (text, "naive+" + "+".join(text.split("+")[::-1]))}) == 1


@pytest.mark.parametrize("partner", ["", "+ewc", "+si"])
def test_variability_zero_equals_the_base_method_bit_for_bit(partner, toy_bits):
    assert toy_bits("nvrm:variability=0" + partner) == toy_bits(partner.removeprefix("+") or "naive")
    assert toy_bits("nvrm" + partner) != toy_bits("nvrm:variability=0" + partner)


def test_a_run_repeated_gives_the_same_bits_and_another_seed_others(toy_bits):
    assert toy_bits("ewc+nvrm") == toy_bits("ewc+nvrm")
    assert toy_bits("ewc+nvrm") != toy_bits("ewc+nvrm", seed=1)


def test_global_random_state_before_a_run_does_not_matter(toy_bits):
    torch.manual_seed(1)
    first = toy_bits("nvrm+si")
    torch.manual_seed(2)
    assert toy_bits("nvrm+si") == first


def test_runs_with_and_without_noise_see_the_same_batches(toy_spec, monkeypatch):
    from cl_nvrm.benchmark import TaskData

    seen: dict[str, list] = {}
    gather = TaskData.gather

    def spy(self, index):
        seen.setdefault(strategy, []).append(index.clone())
        return gather(self, index)

    monkeypatch.setattr(TaskData, "gather", spy)
    for strategy in ("naive", "nvrm"):
        run_one(toy_spec(strategy), threads=1)
    assert len(seen["naive"]) == len(seen["nvrm"])
    assert all(torch.equal(a, b) for a, b in zip(seen["naive"], seen["nvrm"], strict=True))
    assert not torch.equal(seen["naive"][0], torch.arange(32))


def test_the_noise_of_a_strategy_does_not_depend_on_its_partners(toy_spec):
    from cl_nvrm.training.build import build_plugins

    alone, together = (build_plugins(toy_spec(text))["nvrm"].perturbation.seed for text in ("nvrm", "ewc+nvrm+si"))
    assert alone == together != build_plugins(toy_spec("nvrm", seed=1))["nvrm"].perturbation.seed


def test_init_batches_permutations_and_noise_have_seeds_of_their_own(toy_spec):
    seeds = run_one(toy_spec(), threads=1).provenance["seeds"]
    assert {"init", "batches", "training", "benchmark"} <= seeds.keys()
    assert len(set(seeds.values())) == len(seeds)


def test_evaluating_changes_neither_the_weights_nor_the_random_state_nor_the_modes(toy_spec):
    benchmark, _ = build_benchmark(toy_spec(benchmark="toy:heads=true"), None, "cpu")
    model = benchmark.model()
    model.train()
    model.network.trunk.eval()
    before = [p.detach().clone() for p in model.parameters()]
    state = torch.get_rng_state()
    assert 0 <= accuracy_on(model, benchmark.test[1]) <= 1
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert model.training and not model.network.trunk.training


def test_how_often_one_evaluates_leaves_the_final_weights_as_they_were(toy_bits, monkeypatch):
    from cl_nvrm.training import train

    plain = toy_bits("ewc+nvrm+si")
    measure = train.accuracy_on
    monkeypatch.setattr(train, "accuracy_on", lambda *a: max(measure(*a) for _ in range(5)))
    assert toy_bits("ewc+nvrm+si") == plain


def test_accuracy_is_the_share_of_right_answers(toy_spec):
    benchmark, _ = build_benchmark(toy_spec(), None, "cpu")
    model, data = benchmark.model(), benchmark.test[0]
    by_hand = sum(int(model(data[i][0][None]).argmax()) == data[i][1] for i in range(len(data))) / len(data)
    assert accuracy_on(model, data) == pytest.approx(by_hand)


def test_the_matrix_has_a_row_a_task_and_a_column_a_task(toy_spec):
    heard = []
    result = run_one(toy_spec(benchmark="toy:tasks=4"), threads=1, on_task=lambda _, share: heard.append(share))
    assert [len(row) for row in result.accuracy] == [4] * 4
    assert [len(row) for row in result.losses] == [2] * 4
    assert heard == [0.25, 0.5, 0.75, 1.0]
    assert result.accuracy[0][0] > 0.9 > result.accuracy[0][3]


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_what_was_measured(toy_spec, monkeypatch):
    from cl_nvrm.training.loop import Strategy

    criterion = Strategy.criterion

    def breaking(self):
        return criterion(self) * (math.nan if self.experience.current_experience == 1 else 1.0)

    monkeypatch.setattr(Strategy, "criterion", breaking)
    result = run_one(toy_spec("nvrm"), threads=1)
    assert result.status == "diverged" and "task 2" in result.error and "not finite" in result.error
    assert len(result.accuracy) == 1 and result.accuracy[0][0] > 0.9


@pytest.mark.parametrize("strategy", ["ewc", "si"])
def test_a_regulariser_without_importances_is_an_error(strategy, toy_spec):
    if strategy == "si":
        with pytest.raises(RuntimeError, match="every importance of si is 0"):
            run_one(toy_spec(strategy, lr=0.0), threads=1)
    else:
        result = run_one(toy_spec(strategy), threads=1)
        assert all(task["importance_sum"] > 0 for task in result.diagnostics["ewc"])


def test_diagnostics_are_recorded_for_every_task(toy_spec):
    result = run_one(toy_spec("ewc+nvrm+si"), threads=1)
    assert {name: len(tasks) for name, tasks in result.diagnostics.items()} == {"ewc": 3, "nvrm": 3, "si": 3}
    assert 0 < result.diagnostics["nvrm"][0]["noise_to_weight/trunk.1.weight"] < 1


def test_provenance_says_what_made_the_result(toy_spec):
    provenance = run_one(toy_spec(), threads=1).provenance
    assert {"versions", "python", "platform", "device", "threads", "seeds", "scenario", "chance"} <= provenance.keys()
    assert {"torch", "avalanche-lib", "numpy"} <= provenance["versions"].keys()


def test_a_plug_in_that_brings_its_own_loader_still_gets_it(train_toy):
    from avalanche.training.plugins import ReplayPlugin

    _, model = train_toy([ReplayPlugin(60)], tasks=3)
    benchmark = catalog.maker("benchmarks", "toy")(tasks=3, samples=128, seed=0)
    _, naive = train_toy([], tasks=3)
    assert accuracy_on(model, benchmark.test[0]) > accuracy_on(naive, benchmark.test[0])


def test_other_optimizers_run_by_name(toy_bits):
    names = catalog.names("optimizers")
    assert {"adam", "sgd", "nvrm-adam", "nvrm-sgd", "psgd"} <= set(names)
    assert len({toy_bits("ewc", optimizer=name, lr=0.01) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("strategy", "images"),
    [
        ("ewc:samples=200+nvrm", 256),
        *(pytest.param(s, 1000, marks=pytest.mark.slow) for s in ("naive", "ewc+nvrm", "si")),
    ],
)
def test_the_number_of_threads_does_not_change_a_bit(strategy, images):
    if not torch.backends.mkl.is_available():
        pytest.skip("said of MKL's matrix products")
    planned = spec(Setting(data="digits"), strategy, tasks=2, subset=images)
    before = torch.get_num_threads()
    try:
        bits = {run_one(planned, threads=count).provenance["weights_sha256"] for count in (1, 2, 3)}
    finally:
        torch.set_num_threads(before)
    assert len(bits) == 1


@pytest.mark.parametrize(("given", "expected"), [({}, "AUTO,STRICT"), ({"MKL_CBWR": "COMPATIBLE"}, "COMPATIBLE")])
def test_mkl_is_asked_for_reproducible_products_unless_the_user_has_asked_for_something(given, expected):
    environment = {key: value for key, value in os.environ.items() if key != "MKL_CBWR"} | given
    code = "import os, cl_nvrm; print(os.environ['MKL_CBWR'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == expected


def test_evaluating_while_training_is_recorded_and_changes_nothing(toy_spec, toy_bits):
    spec = toy_spec("ewc+nvrm", eval_every=5)  # 16 iterations an epoch, 2 epochs, 3 tasks
    result = run_one(spec, threads=1)
    assert [(t, i) for t, i, _ in result.trace] == [(t, i) for t in range(3) for i in (5, 10, 15, 20, 25, 30, 32)]
    assert all(len(row) == t + 1 for t, _, row in result.trace)
    assert result.provenance["weights_sha256"] == toy_bits("ewc+nvrm")
    assert result.accuracy == run_one(toy_spec("ewc+nvrm"), threads=1).accuracy
    for every in (32, 1000):  # the end of a task is always there, once
        ends = run_one(toy_spec("ewc+nvrm", eval_every=every), threads=1)
        assert [row for _, _, row in ends.trace] == [row[: t + 1] for t, row in enumerate(ends.accuracy)]


def test_the_untrained_network_guesses_and_the_first_tasks_are_those_of_the_whole(toy_spec):
    whole = run_one(toy_spec("nvrm"), threads=1)
    assert len(whole.initial) == 3 and 0 < sum(whole.initial) / 3 < 0.6
    first = run_one(toy_spec("nvrm", first_tasks=2), threads=1)
    assert first.accuracy == tuple(row[:2] for row in whole.accuracy[:2])


def test_a_result_says_which_commit_made_it_and_whether_it_was_changed(toy_spec):
    root = Path(__file__).resolve().parent.parent
    head = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True)
    if head.returncode:
        pytest.skip("not a checkout")
    made = run_one(toy_spec(), threads=1).provenance
    assert made["commit"] == head.stdout.strip() and isinstance(made["dirty"], bool)


def test_each_text_of_a_spec_is_parsed_once(toy_spec, monkeypatch):
    from cl_nvrm.spec import grammar

    spec, parse, parsed = toy_spec("ewc+nvrm", seed=4711), grammar.parse, []
    monkeypatch.setattr(grammar, "parse", lambda kind, text, *rest: parsed.append(kind) or parse(kind, text, *rest))
    run_one(spec, threads=1)
    assert sorted(parsed) == ["benchmarks", "optimizers", "schedules", "strategies", "strategies"]
