from types import SimpleNamespace

import numpy as np
import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import SynapticIntelligencePlugin as AvalancheSI
from torch.nn.functional import cross_entropy

from cl_nvrm.errors import UserError
from cl_nvrm.plugins.distillation import LwFPlugin
from cl_nvrm.plugins.ewc import EWCPlugin
from cl_nvrm.plugins.jacobian import JacobianPlugin
from cl_nvrm.plugins.nsr import NSRPlugin
from cl_nvrm.plugins.nvrm import NVRMPlugin
from cl_nvrm.plugins.si import SIPlugin


def flat(tensors):
    return np.concatenate([t.detach().numpy().ravel() for t in tensors]).astype(np.float64)


class NumpySI(SupervisedPlugin):
    """Zenke et al. 2017 in numpy, from what any plug-in can see; takes its own gradients of the data loss."""

    def __init__(self, xi, nvrm=None):
        super().__init__()
        self.xi, self.nvrm, self.big_omega = xi, nvrm, 0.0

    def before_training_exp(self, strategy, **kwargs):
        self.start = flat(strategy.model.parameters())
        self.small_omega = np.zeros_like(self.start)
        self.losses = []

    def before_training_iteration(self, strategy, **kwargs):
        self.before = flat(strategy.model.parameters())

    def before_backward(self, strategy, **kwargs):  # noise, where there is any, is on
        loss = cross_entropy(strategy.model(strategy.mb_x), strategy.mb_y)
        self.gradient = flat(torch.autograd.grad(loss, list(strategy.model.parameters())))

    def after_training_iteration(self, strategy, **kwargs):
        self.small_omega -= self.gradient * (flat(strategy.model.parameters()) - self.before)

    def after_training_exp(self, strategy, **kwargs):
        self.anchor = flat(strategy.model.parameters())
        gain = np.maximum(self.small_omega, 0) / ((self.anchor - self.start) ** 2 + self.xi)
        self.big_omega = self.big_omega + gain


OTHERS = {
    "alone": list,
    "with nvrm": lambda: [NVRMPlugin(0.05)],
    "with ewc": lambda: [EWCPlugin(50.0)],
    "with nsr": lambda: [NSRPlugin(7.49)],
    "with lwf": lambda: [LwFPlugin(10.0)],
    "with jacobian": lambda: [JacobianPlugin(0.3)],
    "with all": lambda: [JacobianPlugin(0.3), NVRMPlugin(0.05), LwFPlugin(10.0), EWCPlugin(50.0), NSRPlugin(7.49)],
}


@pytest.mark.parametrize("others", OTHERS.values(), ids=OTHERS.keys())
def test_importances_equal_a_reference_in_numpy(train_toy, others):
    si, reference = SIPlugin(2.0, xi=0.01), NumpySI(0.01)
    _, model = train_toy([*others(), si, reference], tasks=3)
    names = [name for name, _ in model.named_parameters()]
    ours = flat(si.importance[name] for name in names)
    assert reference.big_omega.max() > 0
    np.testing.assert_allclose(ours, reference.big_omega, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(flat(si.anchor[name] for name in names), reference.anchor)


def test_the_penalty_is_c_times_omega_times_the_squared_distance():
    model = torch.nn.Linear(3, 2)
    si = SIPlugin(0.25)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    si.remember({name: torch.full_like(w, 3.0) for name, w in weights.items()}, weights)
    with torch.no_grad():
        model.weight += 2.0
    value, gradients = si._evaluate(model)
    assert float(value) == pytest.approx(0.25 * 3 * 4 * 6)
    torch.testing.assert_close(gradients["weight"], torch.full((2, 3), 2 * 0.25 * 3 * 2.0))


def test_it_changes_the_outcome_on_a_cpu(train_toy):
    plain, si = (list(train_toy(p, tasks=3)[1].parameters()) for p in ([], [SIPlugin(10.0)]))
    assert not all(torch.equal(p, q) for p, q in zip(plain, si, strict=True))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_avalanches_own_plug_in_changes_nothing_there(train_toy):
    """Why we have our own; when this fails, Avalanche has mended it."""
    plain, theirs = (list(train_toy(p, tasks=3)[1].parameters()) for p in ([], [AvalancheSI(1e6)]))
    assert all(torch.equal(p, q) for p, q in zip(plain, theirs, strict=True))


def test_the_path_integral_is_the_decrease_of_the_loss_at_small_steps(train_toy):
    class Total(SupervisedPlugin):
        def loss(self, strategy):
            data = benchmark.train[0]
            return float(cross_entropy(strategy.model(data.images), data.labels).detach())

        def before_training_exp(self, strategy, **kwargs):
            self.first = self.loss(strategy)

        def after_training_exp(self, strategy, **kwargs):
            self.drop = self.first - self.loss(strategy)

    from cl_nvrm.spec import catalog

    benchmark = catalog.maker("benchmarks", "toy")(tasks=1, samples=32, seed=0)  # one batch: full-batch descent
    si, total = SIPlugin(1.0), Total()
    train_toy([si, total], benchmark=benchmark, optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=1e-3))
    assert total.drop > 0
    assert sum(float(w.sum()) for w in si.omega.values()) == pytest.approx(total.drop, rel=0.02)


def test_frozen_weights_get_no_importance_and_stay(train_toy):
    si = SIPlugin(1.0)
    train_toy([si], heads=True, tasks=2)
    assert float(si.importance["network.heads.0.weight"].sum()) > 0
    assert "network.heads.1.weight" in si.importance


@pytest.mark.parametrize("setting", [{"c": -1.0}, {"xi": 0.0}, {"c": float("nan")}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(UserError):
        SIPlugin(**setting)


@pytest.mark.parametrize(("clamp", "expected"), [("task", [1, 1]), ("sum", [0, 1]), ("none", [-2, -1])])
def test_importances_below_0_are_cut_off_in_each_task_in_the_running_sum_or_nowhere(clamp, expected):
    """Two weights that have not moved, with path integrals 1 and -2, then -3 and 1, and a damping of 1."""
    model = torch.nn.Linear(2, 1, bias=False)
    plugin, strategy = SIPlugin(1.0, xi=1.0, clamp=clamp), SimpleNamespace(model=model)
    for path in ([1.0, -2.0], [-3.0, 1.0]):
        plugin.omega, plugin._start = {"weight": torch.tensor([path])}, {"weight": model.weight.detach().clone()}
        plugin.after_training_exp(strategy)
    assert plugin.importance["weight"].tolist() == [expected]
    assert torch.equal(plugin.anchor["weight"], model.weight.detach())
