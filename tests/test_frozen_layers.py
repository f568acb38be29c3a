"""Layers that freeze, learn again, grow, come and go: no strategy minds, and importances follow their definition."""

from copy import deepcopy

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.models import IncrementalClassifier, MultiHeadClassifier, MultiTaskModule
from avalanche.training.plugins import CWRStarPlugin
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune

from cl_nvrm.benchmark import Benchmark, TaskAware, TaskData, Watched
from cl_nvrm.errors import UserError
from cl_nvrm.models.mlp import MLP
from cl_nvrm.plugins.ewc import EWCPlugin
from cl_nvrm.plugins.fisher import diagonal_fisher
from cl_nvrm.plugins.l2 import L2Plugin
from cl_nvrm.plugins.mas import MASPlugin, output_sensitivity
from cl_nvrm.plugins.si import SIPlugin
from cl_nvrm.spec import catalog, grammar
from cl_nvrm.spec.curves import VALIDATION
from cl_nvrm.training.record import Curves

TASKS, STEPS = 3, 4  # of 32 samples each


def tasks(*, heads=False, new_classes=False):
    """Two classes a task; with ``new_classes`` each task has its own."""
    generator = torch.Generator().manual_seed(0)

    def task(number):
        y = torch.arange(STEPS * 32) % 2
        x = torch.randn(len(y), 6, generator=generator) + 2 * y[:, None]
        return TaskData(x, y + 2 * number * new_classes, task=number * heads)

    data = [task(number) for number in range(TASKS)]
    return Benchmark("test", data, data, lambda: None, 0.5, heads=TASKS if heads else 1)


class Network(nn.Module):
    """A trunk of two layers and an output layer, in attributes that can be replaced."""

    def __init__(self, last=None):
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 8)
        self.last = last or nn.Linear(8, 2)

    def forward(self, x):
        return self.last(torch.relu(self.second(torch.relu(self.first(x)))))


class At(SupervisedPlugin):
    """Does something to the strategy in some step (task, iteration), at the moment of some callback."""

    def __init__(self, actions, moment="before_training_iteration"):
        super().__init__()
        self.actions = actions
        setattr(self, moment, self.act)

    def act(self, strategy, **kwargs):
        step = strategy.experience.current_experience, strategy.clock.train_exp_iterations
        self.actions.get(step, lambda strategy: None)(strategy)


class Between(SupervisedPlugin):
    """Has the output layer grown by hand before a task is announced."""

    def after_training(self, strategy, **kwargs):
        grow(strategy)


class Heads(MultiTaskModule):
    """Avalanche's heads, which come with the tasks."""

    def __init__(self):
        super().__init__()
        self.trunk, self.last = nn.Linear(6, 8), MultiHeadClassifier(8, masking=False)

    def forward(self, x, task_labels):
        return self.last(torch.relu(self.trunk(x)), task_labels)


def learning(name, on):
    return lambda strategy: strategy.model.get_submodule(name).requires_grad_(on)


def grow(strategy):
    """Give the output layer one more class, in the optimizer, too."""
    old = strategy.model.last
    strategy.model.last = new = nn.Linear(old.in_features, old.out_features + 1)
    with torch.no_grad():
        new.weight[:-1], new.bias[:-1] = old.weight, old.bias
    strategy.optimizer.add_param_group({"params": list(new.parameters())})


def add(strategy):
    """Put a new layer behind the output layer."""
    strategy.model.last = nn.Sequential(strategy.model.last, nn.Linear(2, 2))
    strategy.optimizer.add_param_group({"params": list(strategy.model.last[1].parameters())})


def remove(strategy):
    strategy.model.second = nn.Identity()


SCENARIOS = {
    "freezing": lambda: (Network(), tasks(), [At({(0, 2): learning("first", False), (2, 1): learning("first", True)})]),
    "freezing between passes": lambda: (
        Network(),
        tasks(),
        [At({(1, 2): learning("first", False), (2, 2): learning("first", True)}, "after_backward")],
    ),
    "unfreezing": lambda: (
        (frozen := Network(), frozen.first.requires_grad_(False))[0],
        tasks(),
        [At({(0, 2): learning("first", True), (1, 1): learning("first", False)})],
    ),
    "frozen but for the heads": lambda: (
        TaskAware(MLP(6, 2, width=8, heads=TASKS)),
        tasks(heads=True),
        [At({(1, 1): learning("network.trunk", False), (2, 2): learning("network.trunk", True)})],
    ),
    "CWR*": lambda: (model := Network(), tasks(), [CWRStarPlugin(model)]),
    "growing between tasks": lambda: (Network(IncrementalClassifier(8, 2)), tasks(new_classes=True), []),
    "masked classes": lambda: (Network(IncrementalClassifier(8, 6)), tasks(new_classes=True), []),
    "heads of each task": lambda: (Heads(), tasks(heads=True), []),
    "growing by hand": lambda: (Network(), tasks(), [Between()]),
    "growing within a task": lambda: (Network(), tasks(), [At({(0, 2): grow, (1, 3): grow})]),
    "growing at the end of a step": lambda: (Network(), tasks(), [At({(1, 1): grow}, "after_training_iteration")]),
    "a new layer": lambda: (Network(), tasks(), [At({(1, 1): add})]),
    "a layer less": lambda: (Network(), tasks(), [At({(1, 1): remove})]),
}
REFUSED = {
    ("lwf", "heads of each task"): "needs a list heads",
    ("feature-distillation", "heads of each task"): "needs a list heads",
    ("feature-distillation", "a new layer"): "must stay as many",
}
STRATEGIES = [name for name in catalog.names("strategies") if name != grammar.NEUTRAL]
WATCHED_WITHOUT_LABELS = ("early-stopping", "heads of each task")
CASES = [
    (name, scenario) for name in STRATEGIES for scenario in SCENARIOS if (name, scenario) != WATCHED_WITHOUT_LABELS
]


# In a quarter of the cases the plug-in comes last, too; each strategy and each scenario is among them.
ORDERED = [(*case, True) for case in CASES]
ORDERED += [
    pytest.param(*case, False, marks=pytest.mark.slow)
    for case in CASES
    if (STRATEGIES.index(case[0]) + list(SCENARIOS).index(case[1])) % 4 == 0
]


@pytest.mark.parametrize(("strategy", "scenario", "first"), ORDERED)
def test_no_strategy_minds(strategy, scenario, first, train_toy):
    torch.manual_seed(0)
    model, benchmark, others = SCENARIOS[scenario]()
    (term,) = grammar.parse_sum(strategy)
    plugin = term.make(seed=0)
    plugins = [plugin, *others] if first else [*others, plugin]
    watched = benchmark.test[0]
    curves = Curves([Watched(watched, {VALIDATION: (torch.arange(len(watched)), watched.labels)})])
    if strategy == "early-stopping":
        plugins.append(curves)

    def train():
        train_toy(plugins, model=model, benchmark=benchmark, epochs=1)

    if (strategy, scenario) in REFUSED:
        with pytest.raises(UserError, match=REFUSED[strategy, scenario]):
            train()
        return
    train()
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


# Frozen in the middle of the first task, all through the second, and learning again in the third.
FREEZING = {(0, 2): learning("first", False), (2, 1): learning("first", True)}


class Ends(SupervisedPlugin):
    """Keeps copies of the network and of a penalty's importances and anchors from the end of each task."""

    def __init__(self, penalty):
        super().__init__()
        self.penalty, self.models, self.importances, self.anchors = penalty, [], [], []

    def after_training_exp(self, strategy, **kwargs):
        self.models.append(deepcopy(strategy.model).requires_grad_(True))
        for kept, present in ((self.importances, self.penalty.importance), (self.anchors, self.penalty.anchor)):
            kept.append({name: tensor.clone() for name, tensor in present.items()})


def trained(penalty, train_toy, *others):
    torch.manual_seed(0)
    ends, benchmark = Ends(penalty), tasks()
    train_toy([penalty, At(FREEZING), *others, ends], model=Network(), benchmark=benchmark)
    return ends, benchmark


@pytest.mark.parametrize(
    ("penalty", "importance"),
    [(EWCPlugin(10.0, samples=0), diagonal_fisher), (MASPlugin(0.1, samples=0), output_sensitivity)],
    ids=["ewc", "mas"],
)
def test_a_layer_that_is_frozen_has_the_importances_that_all_others_have(penalty, importance, train_toy):
    ends, benchmark = trained(penalty, train_toy)
    total = {name: 0.0 for name, _ in ends.models[0].named_parameters()}
    for model, data, found in zip(ends.models, benchmark.train, ends.importances, strict=True):
        own = importance(model, data.batches(len(data)))
        assert found.keys() == total.keys()
        for name in total:
            total[name] = total[name] + own[name]
            torch.testing.assert_close(found[name], total[name], rtol=1e-4, atol=1e-7)
    assert bool(ends.importances[0]["first.weight"].any())


def test_a_layer_that_is_frozen_keeps_the_part_it_had_in_the_path(train_toy):
    class Path(SupervisedPlugin):
        """Zenke et al., from its own gradients of the data's loss, of what is trainable when they are taken."""

        def __init__(self):
            super().__init__()
            self.sums = {}

        def before_training_exp(self, strategy, **kwargs):
            self.start, self.omega = weights(strategy.model), {}

        def before_backward(self, strategy, **kwargs):
            self.before = weights(strategy.model)
            loss = cross_entropy(strategy.model(strategy.mb_x), strategy.mb_y)
            learning = {name: p for name, p in strategy.model.named_parameters() if p.requires_grad}
            self.gradient = dict(zip(learning, torch.autograd.grad(loss, learning.values()), strict=True))

        def after_training_iteration(self, strategy, **kwargs):
            for name, g in self.gradient.items():
                moved = weights(strategy.model)[name] - self.before[name]
                self.omega[name] = self.omega.get(name, 0) - g * moved

        def after_training_exp(self, strategy, **kwargs):
            for name, omega in self.omega.items():
                moved = weights(strategy.model)[name] - self.start[name]
                self.sums[name] = self.sums.get(name, 0) + omega.clamp(min=0) / (moved**2 + 0.01)

    def weights(model):
        return {name: p.detach().clone() for name, p in model.named_parameters()}

    path = Path()
    ends, _ = trained(SIPlugin(1.0, xi=0.01), train_toy, path)
    assert bool(ends.importances[0]["first.weight"].any())
    for name, expected in path.sums.items():
        torch.testing.assert_close(ends.importances[-1][name], expected, rtol=1e-3, atol=1e-6)
    assert torch.equal(ends.importances[1]["first.weight"], ends.importances[0]["first.weight"])


PENALTIES = [EWCPlugin(10.0), MASPlugin(0.1), SIPlugin(1.0), L2Plugin(0.1)]


@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda penalty: penalty.name)
def test_a_layer_that_learns_again_is_pulled_to_where_it_was_left(penalty, train_toy):
    ends, _ = trained(penalty, train_toy)
    model = ends.models[1]
    torch.testing.assert_close(ends.anchors[1]["first.weight"], model.first.weight.detach())
    penalty.importance, penalty.anchor = ends.importances[1], ends.anchors[1]
    before, _ = penalty._evaluate(model)
    with torch.no_grad():
        model.first.weight += 1.0
    after, gradients = penalty._evaluate(model)
    assert float(after) > float(before) and bool((gradients["first.weight"] > 0).any())


def test_l2_counts_every_weight_alike_frozen_or_not(train_toy):
    ends, _ = trained(L2Plugin(0.1), train_toy)
    for importance in ends.importances:
        assert len(importance) == 6 and all(bool((f == 1).all()) for f in importance.values())


def test_a_layer_that_never_learned_has_no_importances(train_toy):
    penalty, model = EWCPlugin(10.0), Network()
    model.first.requires_grad_(False)
    train_toy([penalty], model=model, benchmark=tasks())
    assert "first.weight" not in penalty.importance and not model.first.weight.requires_grad


@pytest.mark.parametrize("strategy", ["ewc", "mas", "si", "l2-anchor", "l1", "agem"])
def test_sparse_gradients_are_no_obstacle(strategy, train_toy):
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.last = nn.Embedding(5, 4, sparse=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.last(self.words(x.abs().long().clamp(max=4)).mean(1))

    (term,) = grammar.parse_sum(strategy)
    penalty, model = term.make(seed=0), Words()
    train_toy([penalty], model=model, benchmark=tasks(), optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1))
    assert strategy in ("l1", "agem") or bool(penalty.importance["words.weight"].any())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_strategy_minds_weights_that_are_made_anew_in_each_pass(strategy, train_toy):
    (term,) = grammar.parse_sum(strategy)
    model, benchmark = Network(), tasks()
    prune.l1_unstructured(model.first, "weight", 0.3)
    watched = Watched(benchmark.test[0], {VALIDATION: (torch.arange(STEPS * 32), benchmark.test[0].labels)})
    train_toy([term.make(seed=0), Curves([watched])], model=model, benchmark=benchmark)
    assert int((model.first.weight == 0).sum()) >= 14 and bool(torch.isfinite(model.first.weight_orig).all())
