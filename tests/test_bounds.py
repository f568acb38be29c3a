"""Joint and cumulative training: whose data, in how many steps."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from avalanche.core import SupervisedPlugin

from cl_nvrm.analysis.bounds import ratio_interval, shares
from cl_nvrm.analysis.comparisons import Cell
from cl_nvrm.benchmark import Merged, ShuffledBatches, TaskData
from cl_nvrm.errors import UserError
from cl_nvrm.plugins.bounds import MoreDataPlugin, ScratchPlugin
from cl_nvrm.spec import RunResult, RunSpec
from cl_nvrm.training.build import build_benchmark
from cl_nvrm.training.train import run_one


def part(count, first, task=0):
    labels = torch.arange(count) % 3
    return TaskData(torch.arange(first, first + count).float()[:, None], labels, task=task)


def test_merged_samples_are_those_of_the_parts_with_their_task_labels():
    merged = Merged([part(4, 0), part(3, 10, task=1)])
    x, y, t = merged.gather(torch.tensor([6, 0, 4, 3, 6]))
    assert x[:, 0].tolist() == [12, 0, 10, 3, 12] and y.tolist() == [2, 0, 0, 0, 2] and t.tolist() == [1, 0, 1, 0, 1]
    assert len(merged) == 7 and merged.task_labels == [0] * 4 + [1] * 3 and merged[5][0].tolist() == [11]


def test_an_epoch_may_take_some_samples_others_each_time():
    merged = Merged([part(20, 0), part(20, 100, task=1)])
    merged.epoch_samples = 10
    seeds = iter(range(100))
    loader = ShuffledBatches(merged, 4, lambda: next(seeds))
    epochs = [[int(x) for batch in loader for x in batch[0][:, 0]] for _ in range(20)]
    assert len(loader) == 3 and {len(epoch) for epoch in epochs} == {10} == {len(set(epoch)) for epoch in epochs}
    assert len(Counter(x for epoch in epochs for x in epoch)) == 40


class Seen(SupervisedPlugin):
    """Which tasks' samples, and how many, came in each task."""

    def __init__(self):
        super().__init__()
        self.tasks, self.free = [], []

    def before_training_exp(self, strategy, **kwargs):
        self.tasks.append(Counter())
        self.free.append([head.weight.requires_grad for head in strategy.model.heads])

    def before_training_iteration(self, strategy, **kwargs):
        self.tasks[-1].update(strategy.mb_task_id.tolist())


@pytest.mark.parametrize(("which", "tasks"), [("all", [{0, 1, 2}] * 3), ("so far", [{0}, {0, 1}, {0, 1, 2}])])
@pytest.mark.parametrize("steps", ["same", "epochs"])
def test_whose_data_are_trained_on_and_for_how_long(which, tasks, steps, toy_spec, monkeypatch):
    from cl_nvrm.training import build, train

    seen = Seen()
    plugins = {"bound": MoreDataPlugin(which, steps=steps), "seen": seen}
    monkeypatch.setattr(build, "build_plugins", lambda spec: plugins)
    monkeypatch.setattr(train, "build_plugins", lambda spec: plugins)
    run_one(toy_spec(benchmark="toy:heads=true"), threads=1)
    assert [set(task) for task in seen.tasks] == tasks
    expected = [2 * 512 * (len(own) if steps == "epochs" else 1) for own in tasks]
    assert [sum(task.values()) for task in seen.tasks] == expected
    assert seen.free == [[task in own for task in range(3)] for own in tasks]


@pytest.mark.parametrize("name", ["joint", "cumulative"])
def test_of_one_task_they_are_plain_training_bit_for_bit(toy_bits, name):
    assert toy_bits(name, benchmark="toy:tasks=1") == toy_bits("naive", benchmark="toy:tasks=1")


@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
def test_joint_training_forgets_nothing(toy_spec, scenario):
    benchmark = f"toy:tasks=3,scenario={scenario}"
    rows = {
        name: run_one(toy_spec(name, benchmark=benchmark, epochs=5), threads=1).accuracy[-1]
        for name in ("naive", "cumulative", "joint")
    }
    assert min(rows["joint"]) > 0.9 and min(rows["cumulative"]) > 0.8
    assert min(rows["naive"]) < (0.1 if scenario == "class" else 0.95)


def test_joint_training_has_every_class_active_from_the_start(toy_spec):
    result = run_one(toy_spec("joint", benchmark="toy:tasks=3,scenario=class", epochs=5), threads=1)
    assert min(result.accuracy[0]) > 0.5


def test_no_two_strategies_may_say_what_to_train_on(cli):
    code, _, err = cli("--benchmark", "toy", "--strategy", "joint+cumulative")
    assert code == 2 and "joint" in err and "cumulative" in err and "one of them" in err


@pytest.mark.parametrize("partner", ["ewc", "mas"])
def test_importances_of_one_task_do_not_go_with_it_where_there_are_heads(cli, partner):
    code, _, err = cli("--benchmark", "toy:heads=true", "--strategy", f"joint+{partner}")
    assert code == 2 and "one task at a time" in err
    assert cli("--benchmark", "toy:tasks=2,samples=64", "--epochs", 1, "--strategy", f"joint+{partner}")[0] == 0


def test_a_stopped_run_goes_on_to_the_same_bits(toy_spec, tmp_path, monkeypatch):
    spec = toy_spec("joint+nvrm", benchmark="toy:heads=true")
    whole = run_one(spec, threads=1).provenance["weights_sha256"]

    def stop(history, share):
        if len(history.accuracy) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_one(spec, threads=1, on_task=stop, checkpoint=tmp_path / "state")
    assert run_one(spec, threads=1, checkpoint=tmp_path / "state").provenance["weights_sha256"] == whole


def test_the_data_are_views(toy_spec):
    made, _ = build_benchmark(toy_spec("joint"), None, "cpu")
    plain, _ = build_benchmark(toy_spec("naive"), None, "cpu")
    assert len(made.train) == len(plain.train) == 3
    assert made.train[0].parts[0] is made.train[1].parts[0]


def test_from_scratch_every_task_is_learned_by_a_new_network(toy_spec, toy_bits):
    spec = toy_spec("scratch", benchmark="toy:tasks=3", epochs=3)
    result, naive = run_one(spec, threads=1), run_one(replace(spec, strategy="naive"), threads=1)
    assert result.accuracy[0] == naive.accuracy[0] and result.losses[0] == naive.losses[0]
    assert result.losses[1] != naive.losses[1]
    assert min(result.accuracy[t][t] for t in range(3)) > 0.9
    one_task = toy_spec("naive", benchmark="toy:tasks=1")
    assert toy_bits("scratch", benchmark="toy:tasks=1") == run_one(one_task, threads=1).provenance["weights_sha256"]


def test_from_scratch_draws_from_a_state_of_its_own_and_starts_the_optimizer_anew():
    from types import SimpleNamespace

    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(model.parameters())
    strategy, plugin = SimpleNamespace(model=model, optimizer=optimizer), ScratchPlugin(seed=3)
    plugin.before_training_exp(strategy)
    first = model[0].weight.detach().clone()
    model(torch.randn(8, 4)).square().sum().backward()
    optimizer.step()
    state = torch.get_rng_state()
    plugin.before_training_exp(strategy)
    assert torch.equal(torch.get_rng_state(), state) and not optimizer.state
    assert not torch.equal(model[0].weight, first) and float(model[1].running_mean.abs().sum()) == 0


@pytest.mark.parametrize("bound", ["joint", "cumulative"])
@pytest.mark.parametrize("mix", ["halves", "concatenated"])
def test_replay_beside_the_data_of_other_tasks_is_refused(bound, mix, toy_spec):
    with pytest.raises(UserError, match="leave out replay"):
        run_one(toy_spec(f"{bound}+replay:mix={mix}", benchmark="toy:tasks=2"), threads=1)


def test_a_network_that_cannot_be_made_anew_is_refused():
    from types import SimpleNamespace

    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2))

    with pytest.raises(UserError, match="anew"):
        ScratchPlugin().before_training(SimpleNamespace(model=Own()))


def cell(name, values, **changes):
    spec = RunSpec(name, "b", "d", "", 0, 1, 1, "sgd", 0.1, 0.0, **changes)
    runs = [RunResult(replace(spec, seed=s), "done", ((v, v), (v, v))) for s, v in enumerate(values)]
    return Cell(name, spec, tuple(runs))


def test_the_share_of_the_way_from_plain_to_joint_training():
    cells = [cell("naive", [0.5, 0.6, 0.55]), cell("ewc", [0.7, 0.75, 0.7]), cell("joint", [0.9, 0.9])]
    (two,) = shares(cells)
    assert two.interval is None and two.n == 2 and two.value == pytest.approx((0.2 + 0.15) / (0.4 + 0.3))
    cells[2] = cell("joint", [0.9, 0.9, 0.9])
    cells.append(cell("scratch", [0.5, 0.5]))
    (found,) = shares(cells)
    assert (found.name, found.upper) == ("ewc", "joint") and found.n == 3 and found.value == pytest.approx(0.5 / 1.05)
    assert found.interval[0] < found.value < found.interval[1]
    assert shares(cells[:2]) == [] == shares([cells[0], cells[2]])
    longer = cell("joint:steps=epochs", [0.95, 0.95, 0.95])
    assert [share.upper for share in shares([*cells, longer])] == ["joint", "joint:steps=epochs"]
    other = cell("joint", [0.9, 0.9], eval_every=7)
    assert shares([*cells[:2], other]) == []
    (undefined,) = shares([cell("naive", [0.9, 0.9]), cell("ewc", [0.8, 0.9]), cell("joint", [0.9, 0.8])])
    assert undefined.value is None and "not above" in undefined.reason


def test_the_interval_of_a_ratio_covers_it_as_often_as_it_says():
    draws, hits = np.random.default_rng(0), 0
    for _ in range(2000):
        way = draws.normal(0.3, 0.05, 8)
        gained = 0.6 * way + draws.normal(0, 0.04, 8)
        low, high = ratio_interval(gained, way)
        hits += low <= 0.6 <= high
    assert 0.935 <= hits / 2000 <= 0.965
    assert ratio_interval([1.0, 0.0, 1.0], [0.1, -0.1, 0.05]) is None


def test_bounds_are_grey_lines_among_methods_and_ordinary_ones_by_themselves():
    from cl_nvrm.report.figures import mean_accuracy_curve

    methods = [cell("naive", [0.5, 0.6]), cell("joint", [0.9, 0.9])]
    lines = {line.get_label(): line for line in mean_accuracy_curve(methods, "").axes[0].get_lines()}
    assert lines["joint"].get_color() == "0.45" and list(lines["joint"].get_ydata()) == [90, 90]
    alone = mean_accuracy_curve(methods[1:], "").axes[0].get_lines()
    assert all(line.get_color() != "0.45" for line in alone)
