"""Replay and A-GEM: what is remembered, how much of it, and that the projection does what it says."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import GDumbPlugin

from cl_nvrm.benchmark import Benchmark, Merged, TaskData
from cl_nvrm.errors import UserError
from cl_nvrm.models.mlp import MLP
from cl_nvrm.optim.nvrm_adam import NVRMAdam
from cl_nvrm.optim.nvrm_sgd import NVRMSGD
from cl_nvrm.plugins.ewc import EWCPlugin
from cl_nvrm.plugins.nvrm import NVRMPlugin
from cl_nvrm.plugins.rehearsal import AGEMPlugin, NaiveRehearsalPlugin, ReplayPlugin
from cl_nvrm.plugins.si import SIPlugin
from cl_nvrm.spec import catalog
from cl_nvrm.training.train import run_one
from tests.test_checkpoint import measured

KINDS = {"replay": ReplayPlugin, "agem": AGEMPlugin}
each_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
each_name = pytest.mark.parametrize("name", KINDS)


def bits(model):
    return [p.detach().clone() for p in model.parameters()]


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def groups(plugin):
    return plugin.storage_policy.buffer_datasets if isinstance(plugin, ReplayPlugin) else plugin.buffers


def remembered(plugin):
    return [torch.stack([group[i][0] for i in range(len(group))]) for group in groups(plugin)]


def rows_of(images):
    return {row.numpy().tobytes() for row in images}


class Sizes(SupervisedPlugin):
    def __init__(self, plugin):
        super().__init__()
        self.plugin, self.sizes = plugin, []

    def before_training_exp(self, strategy, **kwargs):
        self.sizes.append([len(group) for group in groups(self.plugin)])


@each_kind
def test_memory_holds_distinct_training_samples_of_each_task_and_no_test_samples(train_toy, make):
    benchmark = catalog.maker("benchmarks", "toy")(tasks=3, samples=128, seed=0)
    plugin = make(50)
    train_toy([plugin], benchmark=benchmark)
    tested = set().union(*(rows_of(task.images) for task in benchmark.test))
    for part, task in zip(remembered(plugin), benchmark.train, strict=True):
        assert len(rows_of(part)) == len(part) > 0
        assert rows_of(part) <= rows_of(task.images) and not rows_of(part) & tested


@pytest.mark.parametrize(
    ("plugin", "sizes"),
    [
        (lambda: ReplayPlugin(50), [[], [50], [25, 25], [17, 17, 16]]),
        (lambda: ReplayPlugin(200), [[], [128], [100, 100], [67, 67, 66]]),
        (lambda: ReplayPlugin(4), [[], [4], [2, 2], [2, 1, 1]]),
        (lambda: AGEMPlugin(50), [[], [50], [50, 50], [50, 50, 50]]),
        (lambda: AGEMPlugin(1000), [[], [128], [128, 128], [128, 128, 128]]),
    ],
)
def test_memory_has_the_size_asked_for(train_toy, plugin, sizes):
    plugin = plugin()
    watch = Sizes(plugin)
    train_toy([plugin, watch], tasks=4)
    assert watch.sizes == sizes


def test_from_the_second_task_on_half_of_each_batch_is_old(train_toy):
    seen = []

    class Count(SupervisedPlugin):
        def before_forward(self, strategy, **kwargs):
            seen.append(strategy.mb_task_id.bincount(minlength=2).tolist())

    train_toy([ReplayPlugin(64), Count()], heads=True, tasks=2)
    assert seen == [[32, 0]] * 4 + [[32, 32]] * 4


@each_name
@pytest.mark.parametrize("benchmark", ["toy:tasks=1,samples=128", "toy:tasks=1,samples=128,heads=true"])
def test_the_first_task_is_trained_as_by_plain_training_bit_for_bit(toy_bits, name, benchmark):
    assert toy_bits(name, benchmark=benchmark) == toy_bits("naive", benchmark=benchmark)


@each_name
def test_it_forgets_less_than_plain_training(toy_spec, name):
    plain, kept = (run_one(toy_spec(strategy, benchmark="toy:tasks=2"), threads=1) for strategy in ("naive", name))
    assert kept.accuracy[-1][0] > plain.accuracy[-1][0] + 0.02


@each_kind
def test_choosing_what_to_remember_moves_no_global_random_state_and_depends_on_the_seed(train_toy, make):
    class States(SupervisedPlugin):
        def __init__(self, at):
            super().__init__()
            self.at, self.kept = at, []

        def after_training_exp(self, strategy, **kwargs):
            self.kept.append((torch.get_rng_state(), random.getstate()))

    def chosen(seed):
        plugin, before, after = make(20, seed=seed), States("before"), States("after")
        train_toy([before, plugin, after], tasks=2)
        for (torch_a, python_a), (torch_b, python_b) in zip(before.kept, after.kept, strict=True):
            assert torch.equal(torch_a, torch_b) and python_a == python_b
        return [rows_of(part) for part in remembered(plugin)]

    assert chosen(0) == chosen(0) != chosen(1)


def test_the_order_of_plug_ins_does_not_change_a_bit(train_toy):
    def trained(backwards):
        plugins = [ReplayPlugin(50), AGEMPlugin(50, sample=30), SIPlugin(1.0), EWCPlugin(10.0), NVRMPlugin(0.05)]
        return bits(train_toy(plugins[::-1] if backwards else plugins, tasks=3)[1])

    assert equal(trained(False), trained(True))


class Projection(SupervisedPlugin):
    """The paper's eq. 11 in numpy, next to what the optimizer gets."""

    def __init__(self, agem):
        super().__init__()
        self.agem, self.data, self.disagreed, self.checked = agem, None, 0, 0

    def flat(self, strategy):
        parameters = strategy.model.parameters()
        return np.concatenate([(torch.zeros_like(p) if p.grad is None else p.grad).numpy().ravel() for p in parameters])

    def after_backward(self, strategy, **kwargs):
        self.data = self.flat(strategy).astype(np.float64)

    def after_update(self, strategy, **kwargs):
        taken = self.flat(strategy)
        if not self.agem.buffers:
            np.testing.assert_array_equal(taken, self.data.astype(np.float32))
            return
        g, reference = self.data, self.agem.reference_gradients.numpy().astype(np.float64)
        if g @ reference < 0:
            self.disagreed += 1
            g = g - (g @ reference) / (reference @ reference) * reference
        np.testing.assert_allclose(taken, g, rtol=1e-3, atol=1e-6)
        assert taken @ reference >= -1e-5 * np.linalg.norm(taken) * np.linalg.norm(reference)
        self.checked += 1


@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize("heads", [False, True])
def test_no_step_goes_against_the_memory(train_toy, heads, noise):
    agem = AGEMPlugin(64, sample=64)
    check = Projection(agem)
    train_toy([check, agem, NVRMPlugin(noise)], heads=heads, tasks=3, epochs=3)
    assert check.checked == 24 and 0 < check.disagreed < 24
    assert 0 < agem.diagnostics["projected"] <= 1


def test_the_projection_is_that_of_avalanches_own_plug_in(train_toy):
    from avalanche.training.plugins import AGEMPlugin as AvalancheAGEM

    class Own(AGEMPlugin):  # with the other's draws
        def sample_from_memory(self):
            return AvalancheAGEM.sample_from_memory(self)

        def after_training_exp(self, strategy, **kwargs):
            AvalancheAGEM.after_training_exp(self, strategy, **kwargs)

    (_, ours), (_, theirs) = (train_toy([plugin], tasks=3) for plugin in (Own(50, sample=30), AvalancheAGEM(50, 30)))
    assert equal(bits(ours), bits(theirs))


def test_the_gradient_on_memory_is_taken_at_clean_weights_and_counted(train_toy):
    class Spy(AGEMPlugin):
        clean, compared = None, 0

        def sample_from_memory(self):
            assert self.clean is None or equal(self.clean, bits(self.model))
            self.compared += self.clean is not None
            return super().sample_from_memory()

        def after_training_iteration(self, strategy, **kwargs):
            self.model, self.clean = strategy.model, bits(strategy.model)

    agem = Spy(50)
    strategy, _ = train_toy([NVRMPlugin(0.1), agem], tasks=3)
    assert agem.compared == 8 and strategy.gradient_passes == 12 + 8


@pytest.mark.parametrize("make", [NVRMSGD, NVRMAdam])
def test_under_an_optimizer_with_noise_memory_is_at_clean_weights_and_the_order_changes_no_bit(train_toy, make):
    """Its zero_grad() puts the noise on: nobody but the strategy may call it."""
    at_memory, between = [], []

    class Spy(AGEMPlugin):
        def sample_from_memory(self):
            at_memory.append(bits(self.model))
            return super().sample_from_memory()

        def before_training_exp(self, strategy, **kwargs):
            super().before_training_exp(strategy, **kwargs)
            self.model = strategy.model

        def before_training_iteration(self, strategy, **kwargs):
            if self.buffers:
                between.append(bits(strategy.model))
            super().before_training_iteration(strategy, **kwargs)
            assert not strategy.optimizer.perturbation.active

    def trained(backwards):
        plugins = [Spy(50, sample=30), si := SIPlugin(1.0)]
        order = plugins[::-1] if backwards else plugins
        strategy, model = train_toy(order, tasks=3, optimizer=lambda m: make(m.parameters(), 3e-3, 0.1, seed=3))
        assert strategy.optimizer.perturbation.state_dict() == alone
        return bits(model) + list(si.omega.values())

    alone = train_toy([], tasks=3, optimizer=lambda m: make(m.parameters(), 3e-3, 0.1, seed=3))[0]
    alone = alone.optimizer.perturbation.state_dict()  # as many draws as in plain training
    assert equal(trained(False), trained(True))
    assert len(at_memory) == len(between) == 16 and all(map(equal, at_memory, between))


def test_a_sample_is_an_equal_part_of_each_task(train_toy):
    agem = AGEMPlugin(50, sample=7)
    train_toy([agem], tasks=3)
    assert len(agem.sample_from_memory()[0]) == 6


@pytest.mark.parametrize(
    ("name", "make"),
    [("memory", ReplayPlugin), ("sample", lambda size: AGEMPlugin(50, sample=size))],
    ids=["replay", "agem"],
)
@pytest.mark.parametrize("heads", [False, True])
def test_room_for_less_than_one_sample_of_each_task_is_refused_before_the_first_step(train_toy, name, make, heads):
    class Steps(SupervisedPlugin):
        taken = 0

        def before_forward(self, strategy, **kwargs):
            self.taken += 1

    steps = Steps()
    with pytest.raises(UserError, match=f"^{name} must be at least the number of tasks, 3, got 2$"):
        train_toy([make(2), steps], tasks=3, heads=heads)
    assert not steps.taken
    train_toy([make(3)], tasks=3, heads=heads)


@each_kind
def test_a_stream_that_does_not_tell_its_length_is_refused_when_it_gets_too_long(train_toy, make):
    class Unknown(SupervisedPlugin):
        def before_training_exp(self, strategy, **kwargs):
            strategy.experience._origin_stream = None

    plugin = make(2) if make is ReplayPlugin else make(50, sample=2)
    with pytest.raises(UserError, match="must be at least the number of tasks, 3, got 2"):
        train_toy([Unknown(), plugin], tasks=3)
    assert len(groups(plugin)) == 2


@each_name
def test_a_run_that_was_stopped_starts_over_and_ends_with_the_same_bits(toy_spec, tmp_path, name):
    class Stop(Exception):
        pass

    def stop(history, share):
        raise Stop

    spec = toy_spec(f"{name}+nvrm", benchmark="toy:tasks=2,samples=128", epochs=1)
    file = tmp_path / "checkpoints" / "run.safetensors"
    whole = run_one(spec, threads=1)
    with pytest.raises(Stop):
        run_one(spec, threads=1, checkpoint=file, on_task=stop)
    assert not file.exists()
    assert measured(run_one(spec, threads=1, checkpoint=file)) == measured(whole)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_gdumb_leaves_the_heads_of_earlier_tasks_untrained(train_toy):
    """Why it is not in the catalog: it trains a copy of the first network, in which those heads are frozen."""
    benchmark = catalog.maker("benchmarks", "toy")(tasks=2, heads=True, samples=128, seed=0)
    model = benchmark.model()
    drawn = model.network.heads[0].weight.detach().clone()
    strategy, _ = train_toy([GDumbPlugin(50)], benchmark=benchmark, model=model)
    assert strategy.model is not model
    assert torch.equal(strategy.model.network.heads[0].weight, drawn)


@pytest.mark.parametrize(
    "make",
    [lambda: ReplayPlugin(0), lambda: AGEMPlugin(0), lambda: AGEMPlugin(sample=0)],
    ids=["replay", "agem", "sample"],
)
def test_sizes_below_one_are_refused(make):
    with pytest.raises(UserError, match="must be at least 1"):
        make()


class Epochs(SupervisedPlugin):
    """The samples of every epoch, and the sizes of its batches."""

    def __init__(self):
        super().__init__()
        self.shown, self.sizes = [], []

    def before_training_epoch(self, strategy, **kwargs):
        self.shown.append([])
        self.sizes.append([])

    def before_forward(self, strategy, **kwargs):
        self.sizes[-1].append(len(strategy.mb_y))
        self.shown[-1] += [
            (x.numpy().tobytes(), int(y), int(t))
            for x, y, t in zip(strategy.mb_x, strategy.mb_y, strategy.mb_task_id, strict=True)
        ]


@pytest.mark.parametrize("heads", [False, True])
def test_concatenated_shows_each_new_sample_once_and_the_memory_as_often_as_it_fits(train_toy, heads):
    benchmark = catalog.maker("benchmarks", "toy")(tasks=3, samples=128, heads=heads, seed=0)
    epochs, plugin = Epochs(), NaiveRehearsalPlugin(50)
    train_toy([plugin, epochs], benchmark=benchmark, epochs=2)
    new = [
        Counter((x.numpy().tobytes(), int(y), task.task) for x, y in zip(task.images, task.labels, strict=True))
        for task in benchmark.train
    ]
    assert epochs.sizes == [[32] * 4] * 2 + [[32] * 7 + [4]] * 4  # 128 + 2 · 50, and 128 + 2 · (25 + 25)
    for number, shown in enumerate(epochs.shown):
        task = number // 2
        assert Counter(shown) & new[task] == new[task]
        old = Counter(shown) - new[task]
        assert set(old.values()) <= {2} and len(old) == (0, 50, 50)[task]
        assert all(any(sample in before for before in new[:task]) for sample in old)
    assert epochs.shown[2] != epochs.shown[3]  # shuffled anew
    assert [len(labels) for _, labels, _ in plugin.tasks] == [16, 16, 16]
    assert plugin.diagnostics == {"memory_samples": 48, "memory_bytes": 48 * (20 * 4 + 8 + 8)}


def test_a_memory_larger_than_the_task_is_shown_once(train_toy):
    epochs = Epochs()
    train_toy([NaiveRehearsalPlugin(1000), epochs])
    assert len(epochs.shown[1]) == 128 + 128


@pytest.mark.parametrize("benchmark", ["toy:tasks=1,samples=128", "toy:tasks=1,samples=128,heads=true"])
def test_concatenated_trains_the_first_task_plainly_and_forgets_less(toy_bits, toy_spec, benchmark):
    assert toy_bits("replay:mix=concatenated", benchmark=benchmark) == toy_bits("naive", benchmark=benchmark)
    two = benchmark.replace("tasks=1", "tasks=2")
    plain, kept = (
        run_one(toy_spec(s, benchmark=two, epochs=4), threads=1) for s in ("naive", "replay:mix=concatenated")
    )
    assert kept.accuracy[-1][0] > plain.accuracy[-1][0]


def test_samples_from_memory_are_augmented_as_new_ones_are(train_toy):
    draws = torch.Generator().manual_seed(0)
    data = TaskData(torch.rand(64, 6, generator=draws), torch.arange(64) % 2, augment=lambda x, generator: x + 100.0)
    epochs, plugin = Epochs(), NaiveRehearsalPlugin(30)
    train_toy([plugin, epochs], benchmark=Benchmark("toy", [data] * 2, [data] * 2, lambda: MLP(6, 2, width=4), 0.5))
    assert float(torch.cat([x for x, *_ in plugin.tasks]).max()) < 1
    assert all(np.frombuffer(x, dtype=np.float32).min() >= 100 for x, *_ in epochs.shown[1])


def test_concatenated_needs_the_benchmarks_own_batches(train_toy):
    plugins = [ReplayPlugin(50), NaiveRehearsalPlugin(50)]
    with pytest.raises(UserError, match="mix=concatenated needs the benchmark's own batches"):
        train_toy(plugins)


def test_several_tasks_merged_are_gathered_in_the_order_asked_for():
    x = torch.arange(10.0)[:, None]
    other = TaskData(x + 100, torch.tensor([5, 6]), rows=torch.tensor([3, 1]), task=7)
    merged = Merged([TaskData(x, torch.arange(10)), other])
    images, labels, tasks = merged.gather(torch.tensor([11, 0, 10, 9, 0]))
    assert images.flatten().tolist() == [101, 0, 103, 9, 0]
    assert labels.tolist() == [6, 0, 5, 9, 0] and tasks.tolist() == [7, 0, 7, 0, 0]
    assert len(merged) == 12 and merged[10][1] == 5
    assert torch.cat([batch[0] for batch in merged.batches(5)]).flatten().tolist() == [*range(10), 103, 101]


@pytest.mark.parametrize(("make", "size"), [(ReplayPlugin, 50), (AGEMPlugin, 100)], ids=["replay", "agem"])
def test_the_size_of_the_memory_is_recorded(train_toy, make, size):
    plugin = make(50)
    train_toy([plugin])
    assert plugin.diagnostics["memory_samples"] == size
    assert plugin.diagnostics["memory_bytes"] == size * (20 * 4 + 8 + 8)
