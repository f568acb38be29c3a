"""The reservoir keeps a fair sample, and experience replay makes it a part of the batch."""

from collections import Counter
from copy import deepcopy

import pytest
import torch
from avalanche.core import SupervisedPlugin
from scipy.stats import chi2
from torch import nn
from torch.nn.functional import cross_entropy

from cl_nvrm.benchmark import Benchmark, TaskData
from cl_nvrm.errors import UserError
from cl_nvrm.models.mlp import MLP
from cl_nvrm.noise import Perturbation
from cl_nvrm.plugins.der import DERPlugin
from cl_nvrm.plugins.er import ERPlugin
from cl_nvrm.plugins.er_ace import ERACEPlugin
from cl_nvrm.plugins.ewc import EWCPlugin
from cl_nvrm.plugins.memory import Reservoir
from cl_nvrm.plugins.nvrm import NVRMPlugin
from cl_nvrm.plugins.si import SIPlugin
from cl_nvrm.spec import catalog

KINDS = {"er": ERPlugin, "er-ace": ERACEPlugin, "der": DERPlugin, "derpp": lambda *a, **k: DERPlugin(*a, beta=1.0, **k)}
each_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())


def bits(model):
    return [t.detach().clone() for t in model.state_dict().values()]


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def numbered(numbers, *, label=0):
    x = torch.as_tensor(list(numbers), dtype=torch.float32)[:, None]
    labels = torch.full((len(x),), label)
    return {"x": x, "y": labels, "task": torch.zeros_like(labels)}


def test_every_sample_of_the_stream_is_as_likely_to_be_kept():
    stream, size, repeats = 40, 8, 3000
    kept = torch.zeros(stream)
    for seed in range(repeats):
        memory = Reservoir(size, seed=seed)
        for numbers in torch.arange(stream).split(7):
            memory.add(numbered(numbers))
        found = memory.columns["x"].flatten().long()
        assert len(found.unique()) == len(memory) == size
        kept[found] += 1
    expected = repeats * size / stream
    # Drawn without replacement, counts scatter less than a multinomial's, by 1 - size/stream.
    statistic = float(((kept - expected) ** 2 / expected).sum()) / (1 - size / stream)
    assert chi2.ppf(0.001, stream - 1) < statistic < chi2.ppf(0.999, stream - 1)


def test_what_is_drawn_are_different_samples_and_no_more_than_there_are():
    memory = Reservoir(8)
    assert memory.draw(3) is None
    memory.add(numbered(range(5)))
    assert sorted(memory.draw(100)["x"].flatten().tolist()) == [0, 1, 2, 3, 4]
    assert len(set(memory.draw(3)["x"].flatten().tolist())) == 3


def test_its_size_in_bytes_is_that_of_what_is_kept():
    memory = Reservoir(100)
    memory.add(numbered(range(5)) | {"logits": torch.zeros(5, 3), "outputs": torch.full((5,), 3)})
    assert memory.nbytes == 5 * (4 + 8 + 8 + 3 * 4 + 8)


def test_samples_of_another_shape_are_refused():
    memory = Reservoir(4)
    memory.add(numbered(range(2)))
    with pytest.raises(UserError, match=r"samples of one shape, not of \(1,\) and \(2,\)"):
        memory.add({"x": torch.zeros(1, 2), "y": torch.zeros(1), "task": torch.zeros(1)})


@pytest.mark.parametrize("of", ["y", "task"])
def test_a_balanced_memory_gives_up_what_it_has_most_of(of):
    """A class of each head is one of its own."""
    memory = Reservoir(12, balanced=True, seed=1)
    draws = torch.Generator().manual_seed(0)
    before, changed = Counter(), 0
    for number in range(600):
        rare = torch.randint(10, (1,), generator=draws) // 9
        memory.add(numbered([number]) | {of: rare})
        now = Counter(memory.columns[of][: len(memory)].tolist())
        for gone in (before - now).elements():
            assert before[gone] == max(before.values())
            changed += 1
        before = now
    assert changed > 3 and before[1] >= 4


class Batches(SupervisedPlugin):
    """What the network sees in each iteration, and what it makes of it."""

    def __init__(self):
        super().__init__()
        self.seen, self.outputs, self.tasks = [], [], []

    def after_forward(self, strategy, **kwargs):
        self.seen.append((strategy.mb_x, strategy.mb_y))
        self.tasks.append(strategy.mb_task_id.tolist())
        self.outputs.append(strategy.mb_output.detach())


def rows(images):
    return {row.numpy().tobytes() for row in images}


@each_kind
def test_memory_holds_samples_of_all_tasks_each_with_its_own_label_and_none_of_the_tests(train_toy, make):
    benchmark = catalog.maker("benchmarks", "toy")(tasks=3, samples=128, heads=True, seed=0)
    plugin = make(60)
    train_toy([plugin], benchmark=benchmark)
    kept = plugin.memory.draw(60)
    where = {row.numpy().tobytes(): (t, int(y)) for t, task in enumerate(benchmark.train) for row, y in zip(task.images, task.labels)}  # fmt: skip # noqa: E501, B905
    found = list(zip(kept["task"].tolist(), kept["y"].tolist(), strict=True))
    assert [where[x.numpy().tobytes()] for x in kept["x"]] == found
    assert {task for task, _ in found} == {0, 1, 2}
    assert plugin.diagnostics == {"memory_samples": 60, "memory_bytes": plugin.memory.nbytes}


def test_samples_from_memory_join_every_batch_but_the_first(train_toy):
    batches = Batches()
    train_toy([batches, ERPlugin(64, batch=10)], heads=True, tasks=2)
    assert [len(tasks) for tasks in batches.tasks] == [32] + [42] * 7
    for tasks in batches.tasks[4:]:
        assert tasks[:32] == [1] * 32
    assert batches.tasks[4][32:] == [0] * 10 and any(1 in tasks[32:] for tasks in batches.tasks[5:])


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_experience_replay_equals_a_hand_written_loop_also_under_noise(train_toy, noise):
    torch.manual_seed(0)
    model, batches = nn.Sequential(nn.Linear(20, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)), Batches()
    by_hand, xi = deepcopy(model), Perturbation(noise, seed=3)
    train_toy(
        [NVRMPlugin(noise, seed=3), batches, ERPlugin(50)],
        model=model,
        optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.05),
    )
    weights = list(by_hand.parameters())
    for number, (x, y) in enumerate(batches.seen):
        assert len(x) == (64 if number else 32)
        assert number == 0 or rows(x[32:]) <= rows(torch.cat([old[:32] for old, _ in batches.seen[:number]]))
        with xi.around(weights):
            gradients = torch.autograd.grad(cross_entropy(by_hand(x), y), weights)
        with torch.no_grad():
            for w, g in zip(weights, gradients, strict=True):
                w.sub_(0.05 * g)
    for p, q in zip(bits(model), bits(by_hand), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "strategy", ["er:memory=0", "der:memory=0", "derpp:memory=0", "der:alpha=0", "derpp:alpha=0,beta=0"]
)
def test_a_memory_that_is_never_asked_is_plain_training_bit_for_bit(toy_bits, strategy):
    assert toy_bits(strategy) == toy_bits("naive") != toy_bits(strategy.partition(":")[0])


@each_kind
@pytest.mark.parametrize("other", [SIPlugin, EWCPlugin], ids=["si", "ewc"])
def test_the_order_of_plug_ins_does_not_change_a_bit(train_toy, make, other):
    def trained(backwards):
        plugins = [make(50), NVRMPlugin(0.05), *([] if make is ERPlugin else [ERPlugin(20)]), other(1.0)]
        return bits(train_toy(plugins[::-1] if backwards else plugins, tasks=3, heads=True)[1])

    assert equal(trained(False), trained(True))


@each_kind
def test_heads_of_earlier_tasks_stay_frozen_and_shared_layers_learn(train_toy, make):
    kept = []

    class Heads(SupervisedPlugin):
        def after_training_exp(self, strategy, **kwargs):
            kept.append(bits(strategy.model.network.heads[0]))

    _, model = train_toy([make(50), Heads()], heads=True)
    assert equal(kept[0], kept[1]) and equal(kept[1], bits(model.network.heads[0]))


@each_kind
def test_its_choices_move_no_global_random_state_and_depend_on_the_seed(train_toy, make):
    def chosen(seed):
        plugin = make(20, seed=seed)
        train_toy([plugin])
        return torch.get_rng_state(), plugin.memory.columns["x"]

    train_toy([])
    plain = torch.get_rng_state()
    (one, x), (same, again), (other, different) = chosen(0), chosen(0), chosen(1)
    assert torch.equal(plain, one) and torch.equal(one, same) and torch.equal(one, other)
    assert torch.equal(x, again) and not torch.equal(x, different)


@each_kind
def test_what_is_kept_is_not_augmented_and_what_is_drawn_is_anew(train_toy, make):
    drawn, torch_seed = [], torch.Generator().manual_seed(0)

    def brighter(images, generator):
        return images + 100 * (1 + torch.rand(len(images), 1, generator=generator))

    data = TaskData(torch.rand(96, 6, generator=torch_seed), torch.arange(96) % 2, augment=brighter)
    benchmark = Benchmark("toy", [data, data], [data, data], lambda: MLP(6, 2, width=4), 0.5)

    class Draws(SupervisedPlugin):
        def before_forward(self, strategy, **kwargs):
            drawn.append(plugin.draw(strategy))

    plugin = make(40)
    train_toy([plugin, Draws()], benchmark=benchmark)
    assert rows(plugin.memory.columns["x"][:40]) <= rows(data.images)
    seen = torch.cat([one["x"] for one in drawn if one is not None])
    assert float(seen.min()) > 100 and len(rows(seen)) == len(seen)


@each_kind
@pytest.mark.parametrize("setting", ["memory", "batch"])
def test_sizes_below_zero_are_refused(make, setting):
    with pytest.raises(UserError, match=f"{setting} must be a number of samples of at least 0, got -1"):
        make(**{setting: -1})
