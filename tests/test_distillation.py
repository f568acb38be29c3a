"""Learning without forgetting and feature distillation: a clean, frozen teacher and a student under noise."""

from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from avalanche.core import SupervisedPlugin
from scipy.special import rel_entr, softmax
from torch import nn
from torch.nn.functional import cross_entropy

from cl_nvrm.benchmark import TaskAware
from cl_nvrm.errors import UserError
from cl_nvrm.models import ioc_cnn
from cl_nvrm.models.mlp import MLP
from cl_nvrm.plugins.distillation import FeatureDistillationPlugin, LwFPlugin
from cl_nvrm.plugins.ewc import EWCPlugin
from cl_nvrm.plugins.nvrm import NVRMPlugin
from cl_nvrm.plugins.rehearsal import ReplayPlugin
from cl_nvrm.plugins.sam import SAMPlugin
from cl_nvrm.plugins.si import SIPlugin
from cl_nvrm.training.train import run_one
from tests.test_checkpoint import measured

KINDS = {"lwf": LwFPlugin, "feature-distillation": FeatureDistillationPlugin}
each_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
each_name = pytest.mark.parametrize("name", KINDS)
both = pytest.mark.parametrize("heads", [False, True], ids=["one head", "heads"])


def bits(model):
    return [p.detach().clone() for p in model.parameters()]


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def with_batch_norm():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))


class Reference(SupervisedPlugin):
    """Works the loss out in numpy from full forward passes; noise, where there is any, is on in ``after_forward``."""

    def __init__(self, name, heads):
        super().__init__()
        self.name, self.heads, self.old, self.tasks = name, heads, None, 0
        self.expected, self.got = [], []

    def logits_and_features(self, model, x):
        network = model.network if self.heads else model
        with torch.no_grad():
            every = [network(x, k).double().numpy() for k in range(self.tasks if self.heads else 1)]
            return every, network.trunk(x).double().numpy()

    def after_forward(self, strategy, **kwargs):
        term = 0.0
        if self.old is not None:
            mine, f = self.logits_and_features(strategy.model, strategy.mb_x)
            theirs, g = self.logits_and_features(self.old, strategy.mb_x)
            if self.name == "lwf":
                pairs = [(softmax(t / 2, axis=1), softmax(m / 2, axis=1)) for t, m in zip(theirs, mine, strict=True)]
                term = 3.0 * sum(rel_entr(t, m).sum() for t, m in pairs) / len(f)
            else:
                term = 3.0 * np.square(f - g).sum() / len(f)
        self.data = float(cross_entropy(strategy.mb_output.detach(), strategy.mb_y))
        self.expected.append(term)

    def after_backward(self, strategy, **kwargs):
        self.got.append(float(strategy.loss.detach()) - self.data)

    def after_training_exp(self, strategy, **kwargs):
        self.old, self.tasks = deepcopy(strategy.model), self.tasks + 1


@pytest.mark.parametrize("noise", [0.0, 0.05])
@both
@each_name
def test_the_loss_is_that_of_a_reference_in_numpy(train_toy, name, heads, noise):
    reference = Reference(name, heads)
    plugins = [KINDS[name](3.0), NVRMPlugin(noise, seed=1), reference]
    train_toy(plugins, heads=heads, tasks=3, optimizer=lambda m: torch.optim.Adam(m.parameters(), lr=0.03))
    assert reference.got == pytest.approx(reference.expected, rel=1e-3, abs=2e-6)
    assert len(reference.got) == 12 and reference.expected[:4] == [0] * 4 and max(reference.expected) > 0.01


@pytest.mark.parametrize("labels", [torch.full((6,), 2), torch.tensor([2, 0, 1, 2, 0, 1])], ids=["one", "mixed"])
@both
@each_kind
def test_where_student_and_teacher_agree_the_term_and_its_gradient_are_zero(make, heads, labels):
    torch.manual_seed(0)
    network = MLP(5, 4, width=8, heads=3 if heads else 1)
    strategy = alone(make(2.0), TaskAware(network) if heads else network, torch.randn(6, 5), labels)
    term = strategy.plugin.term(strategy)
    term.backward()
    assert float(term.detach()) == 0
    assert all(p.grad is None or float(p.grad.abs().max()) < 1e-7 for p in network.parameters())
    with torch.no_grad():
        network.trunk[1].weight.mul_(3.0)
    assert float(forward(strategy).plugin.term(strategy).detach()) > 1e-5


def alone(plugin, model, x, labels, classes=range(4)):
    """One plug-in that has seen a task, before the backward pass of the next one's first batch."""
    strategy = SimpleNamespace(plugin=plugin, model=model, mb_x=x, mb_task_id=labels)
    strategy.experience = SimpleNamespace(task_labels=[0], classes_in_this_experience=list(classes))
    plugin.after_training_exp(strategy)
    plugin.before_train_dataset_adaptation(strategy)
    return forward(strategy)


def forward(strategy):
    strategy.plugin.before_forward(strategy)
    multi = isinstance(strategy.model, TaskAware)
    strategy.mb_output = strategy.model(strategy.mb_x, *([strategy.mb_task_id] if multi else []))
    strategy.plugin.after_forward(strategy)
    return strategy


def test_classes_the_teacher_has_not_seen_are_not_distilled():
    torch.manual_seed(0)
    model = MLP(5, 4, width=8)
    strategy = alone(LwFPlugin(), model, torch.randn(6, 5), torch.zeros(6, dtype=torch.long), classes=[0, 2])
    with torch.no_grad():
        model.heads[0].weight.add_(torch.randn(4, 8))
    forward(strategy)
    strategy.plugin.term(strategy).backward()
    moved = model.heads[0].weight.grad.abs().sum(1) > 0
    assert moved.tolist() == [True, False, True, False]


class Watch(SupervisedPlugin):
    """Keeps clean weights of the end of each task, and what the teacher is made of in every later step."""

    def __init__(self, plugin):
        super().__init__()
        self.plugin, self.ends, self.teachers, self.students, self.modes = plugin, [], [], [], []

    def before_backward(self, strategy, **kwargs):
        teacher = self.plugin._teacher
        if teacher is not None:
            self.teachers.append((len(self.ends), bits(teacher)))
            self.students.append(bits(strategy.model))
            self.modes += [teacher.training, any(p.requires_grad for p in teacher.parameters())]
            stepped = {id(p) for group in strategy.optimizer.param_groups for p in group["params"]}
            self.modes.append(bool(stepped & {id(p) for p in teacher.parameters()}))

    def after_training_exp(self, strategy, **kwargs):
        self.ends.append(bits(strategy.model))


@both
@each_kind
def test_the_teacher_is_frozen_and_never_sees_noise(train_toy, make, heads):
    plugin = make()
    watch = Watch(plugin)
    train_toy([NVRMPlugin(0.3), plugin, watch], heads=heads, tasks=3)
    assert [task for task, _ in watch.teachers] == [1] * 4 + [2] * 4
    assert all(equal(teacher, watch.ends[task - 1]) for task, teacher in watch.teachers)
    assert not any(watch.modes)
    assert not equal(watch.students[0], watch.ends[0])  # no step has been taken yet: this is the noise


@each_kind
def test_running_statistics_move_once_a_step_and_those_of_the_teacher_never(train_toy, make):
    plugin, seen = make(), []

    class Statistics(SupervisedPlugin):
        def after_training_iteration(self, strategy, **kwargs):
            if plugin._teacher is not None:
                seen.append(int(plugin._teacher[1].num_batches_tracked))

    _, model = train_toy([plugin, Statistics()], model=with_batch_norm())
    assert int(model[1].num_batches_tracked) == 8 and seen == [4] * 4


@each_kind
def test_nothing_is_left_on_the_network_after_training(train_toy, make):
    plugin = make()
    _, model = train_toy([plugin], heads=True)
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(isinstance(value, nn.Module) for value in vars(plugin).values())


@both
@each_name
def test_alpha_zero_is_naive_bit_for_bit(toy_bits, name, heads):
    benchmark = f"toy:tasks=2,samples=128,heads={str(heads).lower()}"
    assert toy_bits(f"{name}:alpha=0", benchmark=benchmark) == toy_bits("naive", benchmark=benchmark)


@pytest.mark.parametrize("penalty_at", ["noisy", "clean"])
@both
def test_the_order_of_plug_ins_does_not_change_a_bit(train_toy, heads, penalty_at):
    def trained(backwards):
        plugins = [LwFPlugin(), EWCPlugin(10.0), NVRMPlugin(0.05, penalty_at=penalty_at), FeatureDistillationPlugin()]
        return bits(train_toy(plugins[::-1] if backwards else plugins, heads=heads)[1])

    assert equal(trained(False), trained(True))


@each_name
def test_a_huge_alpha_holds_on_to_what_was_learned(toy_spec, name):
    kept = [
        run_one(toy_spec(f"{name}:alpha={alpha}", benchmark="toy:tasks=2,heads=true", epochs=3), threads=1)
        for alpha in (0, 1e4)
    ]
    (plain, _), (held, _) = (run.accuracy[-1] for run in kept)
    assert held > plain and held > kept[1].accuracy[0][0] - 0.03


def test_a_huge_alpha_keeps_the_features_where_they_were(train_toy):
    class Distance(SupervisedPlugin):
        def after_training_exp(self, strategy, **kwargs):
            features = strategy.model.trunk(x).detach()
            self.moved = float((features - getattr(self, "before", features)).square().sum(1).mean())
            self.before = features

    def moved(alpha):
        distance = Distance()
        train_toy([FeatureDistillationPlugin(alpha), distance], tasks=2, epochs=3)
        return distance.moved

    from cl_nvrm.spec import catalog

    x = catalog.maker("benchmarks", "toy")(tasks=2, samples=128, seed=0).train[1].images
    assert moved(1e3) < 0.05 * moved(0.0)


@each_kind
def test_it_works_on_batches_of_several_tasks(train_toy, make):
    plugin, seen = make(), set()

    class Mixed(SupervisedPlugin):
        def after_backward(self, strategy, **kwargs):
            seen.add(tuple(strategy.mb_task_id.unique().tolist()))
            assert bool(torch.isfinite(strategy.loss).all())

    train_toy([plugin, ReplayPlugin(60), Mixed()], heads=True, tasks=2)
    assert seen == {(0,), (0, 1)}


@both
@each_name
def test_a_run_goes_on_from_a_checkpoint_to_the_same_bits(toy_spec, tmp_path, name, heads):
    class Stop(Exception):
        pass

    def stop(history, share):
        raise Stop

    spec = toy_spec(f"{name}+nvrm", benchmark=f"toy:samples=128,heads={str(heads).lower()}", epochs=1)
    file = tmp_path / "checkpoints" / "run.safetensors"
    whole = run_one(spec, threads=1)
    with pytest.raises(Stop):
        run_one(spec, threads=1, checkpoint=file, on_task=stop)
    shares = []
    resumed = run_one(spec, threads=1, checkpoint=file, on_task=lambda history, share: shares.append(share))
    assert len(shares) == 2
    assert measured(resumed) == measured(whole)


@each_kind
def test_sharpness_aware_minimisation_refuses_it(train_toy, make):
    with pytest.raises(UserError, match="cannot repeat what another plug-in adds"):
        train_toy([SAMPlugin(), make()])
    train_toy([SAMPlugin(), make(0.0)])


def test_networks_whose_features_cannot_be_told_are_refused(train_toy):
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.output, self.hidden = nn.Linear(16, 4), nn.Linear(20, 16)

        def forward(self, x):
            return self.output(self.hidden(x))

    with pytest.raises(UserError, match="must be the last linear layer"):
        train_toy([FeatureDistillationPlugin()], model=Backwards())
    train_toy([LwFPlugin()], model=Backwards())  # needs outputs only
    no_linear = nn.Sequential(nn.Unflatten(1, (20, 1)), nn.Conv1d(20, 4, 1), nn.Flatten())
    with pytest.raises(UserError, match="no linear layer"):
        train_toy([FeatureDistillationPlugin()], model=no_linear)


@pytest.mark.parametrize("setting", [{"alpha": -1.0}, {"alpha": float("nan")}, {"temperature": 0.0}], ids=str)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(UserError):
        LwFPlugin(**setting)


def test_outputs_are_enough_for_a_network_without_linear_layers(train_toy):
    image = nn.Sequential(nn.ConstantPad1d((0, 44), 0.0), nn.Unflatten(1, (1, 8, 8)))
    train_toy([LwFPlugin()], model=nn.Sequential(image, ioc_cnn.model((1, 8, 8), 4, width=4)))


@each_kind
def test_what_a_compiled_network_does_not_show_is_refused_before_training(train_toy, make):
    class Never(SupervisedPlugin):
        def before_forward(self, strategy, **kwargs):
            pytest.fail("training has begun")

    model = MLP(20, 4, width=8)
    model.compile(backend="eager")
    if make is FeatureDistillationPlugin:
        with pytest.raises(UserError, match="leave out --compile"):
            train_toy([make(), Never()], model=model)
    train_toy([make(0.0 if make is FeatureDistillationPlugin else 1.0)], model=model)
    with pytest.raises(UserError, match="beside si"):
        train_toy([LwFPlugin(), SIPlugin(), Never()], model=model)


def test_networks_without_features_are_refused_before_training(train_toy):
    class Never(SupervisedPlugin):
        def before_forward(self, strategy, **kwargs):
            pytest.fail("training has begun")

    no_linear = nn.Sequential(nn.Unflatten(1, (20, 1)), nn.Conv1d(20, 4, 1), nn.Flatten())
    with pytest.raises(UserError, match="no linear layer"):
        train_toy([FeatureDistillationPlugin(), Never()], model=no_linear)
    train_toy([LwFPlugin()], model=no_linear)


def test_weights_of_the_tasks_leave_the_batch_its_nth_part_and_the_heads_a_mean():
    torch.manual_seed(0)
    network = TaskAware(MLP(5, 4, width=8, heads=3))
    plugin = LwFPlugin(4.0, weights="tasks")
    strategy = alone(plugin, network, torch.randn(6, 5), torch.full((6,), 2))
    plugin.seen[1], plugin.tasks = [0, 1, 2, 3], 2  # two heads have been learned
    strategy._criterion, strategy.mb_y = cross_entropy, torch.tensor([0, 1, 2, 3, 0, 1])
    with torch.no_grad():
        network.network.trunk[1].weight.mul_(3.0)
    forward(strategy)
    batch = cross_entropy(strategy.mb_output, strategy.mb_y)
    found = batch + plugin.term(strategy)
    plugin.weighting, plugin.alpha = "constant", 1.0
    both_heads = plugin.term(strategy)
    assert float(both_heads.detach()) > 1e-3
    assert float(found.detach()) == pytest.approx(float((batch / 3 + 2 / 3 * 4.0 * both_heads / 2).detach()), rel=1e-5)


def test_a_softmax_over_all_outputs_keeps_those_of_new_classes_down():
    torch.manual_seed(0)
    model = MLP(5, 4, width=8)
    x = torch.randn(6, 5)
    strategy = alone(LwFPlugin(softmax="all"), model, x, torch.zeros(6, dtype=torch.long), classes=[0, 1])
    term = strategy.plugin.term(strategy)
    logits = model(x).detach().double().numpy() / 2
    told, asked = softmax(logits[:, :2], axis=1), softmax(logits, axis=1)[:, :2]
    assert float(term.detach()) == pytest.approx((told * np.log(told / asked)).sum() / 6, rel=1e-4)
    term.backward()
    assert (model.heads[0].bias.grad > 0).tolist() == [False, False, True, True]


@pytest.mark.parametrize(("over", "outputs"), [("old", 2), ("all", 4)])
def test_a_mean_over_outputs_divides_by_those_that_the_softmax_runs_over(over, outputs):
    torch.manual_seed(0)
    x, labels = torch.randn(6, 5), torch.zeros(6, dtype=torch.long)
    plugin, model = LwFPlugin(softmax=over), MLP(5, 4, width=8)
    strategy = alone(plugin, model, x, labels, classes=[0, 1])
    with torch.no_grad():
        model.heads[0].weight.add_(torch.randn(4, 8))
    forward(strategy)
    summed = float(plugin.term(strategy).detach())
    plugin.outputs = "mean"
    assert summed > 1e-3
    assert float(plugin.term(strategy).detach()) == pytest.approx(summed / outputs, rel=1e-6)
    with pytest.raises(UserError, match="there is sum and mean, not 'max'"):
        LwFPlugin(outputs="max")


@each_kind
def test_the_size_of_the_teacher_is_recorded(train_toy, make):
    plugin = make()
    train_toy([plugin], model=with_batch_norm())
    assert plugin.diagnostics == {"memory_bytes": 4 * (20 * 16 + 16 + 4 * 16 + 16 * 4 + 4) + 8}
