"""Joint and cumulative training: whose data, in how many steps."""

from collections import Counter

import pytest
import torch
from avalanche.core import SupervisedPlugin

from cl_nvrm.benchmark import Merged, ShuffledBatches, TaskData
from cl_nvrm.plugins.bounds import MoreDataPlugin
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
