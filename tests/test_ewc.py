import pytest
import torch
from avalanche.core import SupervisedPlugin
from torch import nn
from torch.nn.functional import cross_entropy

from cl_nvrm.errors import UserError
from cl_nvrm.plugins.ewc import EWCPlugin
from cl_nvrm.plugins.quadratic import QuadraticPenalty


def penalty(strength=0.5):
    plugin = QuadraticPenalty(strength)
    plugin.name = "test"
    return plugin


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(4, 3)


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def importances(model, generator):
    return {name: torch.rand(p.shape, generator=generator).square() for name, p in model.named_parameters()}


def test_the_running_tensors_equal_the_sum_over_all_tasks():
    model, generator, plugin = linear(), torch.Generator().manual_seed(0), penalty(0.7)
    tasks = []
    for _ in range(20):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn(p.shape, generator=generator))
        tasks.append((importances(model, generator), weights(model)))
        plugin.remember(*tasks[-1])
    value, gradients = plugin._evaluate(model)
    wide = {name: p.detach().double().requires_grad_() for name, p in model.named_parameters()}
    expected = 0.7 * sum((f[n].double() * (wide[n] - w[n].double()).square()).sum() for f, w in tasks for n in f)
    expected.backward()
    assert float(value) == pytest.approx(float(expected.detach()), rel=1e-5)
    for name in wide:
        torch.testing.assert_close(gradients[name].double(), wide[name].grad, rtol=1e-4, atol=1e-4)


def test_memory_does_not_grow_with_the_number_of_tasks():
    model, generator, plugin = linear(), torch.Generator().manual_seed(0), penalty()

    def held():
        return sum(t.numel() for tensors in (plugin.importance, plugin.anchor) for t in tensors.values())

    plugin.remember(importances(model, generator), weights(model))
    once = held()
    for _ in range(50):
        plugin.remember(importances(model, generator), weights(model))
    assert held() == once == 2 * sum(p.numel() for p in model.parameters())


def test_after_one_task_the_penalty_is_exactly_zero_at_its_anchor():
    model, plugin = linear(), penalty(1e6)
    plugin.remember(importances(model, torch.Generator().manual_seed(0)), weights(model))
    value, gradients = plugin._evaluate(model)
    assert float(value) == 0 and all(float(g.abs().sum()) == 0 for g in gradients.values())


def test_weights_that_did_not_matter_are_free():
    model, plugin = linear(), penalty()
    zeros_but_one = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    zeros_but_one["bias"][0] = 1.0
    plugin.remember(zeros_but_one, weights(model))
    with torch.no_grad():
        model.weight.add_(5.0)
    assert float(plugin._evaluate(model)[0]) == 0


def test_importances_that_are_all_zero_are_an_error_that_says_so():
    model, plugin = linear(), penalty()
    with pytest.raises(RuntimeError, match="every importance of test is 0"):
        plugin.remember({name: torch.zeros_like(p) for name, p in model.named_parameters()}, weights(model))


def test_a_head_that_has_grown_keeps_its_old_rows_anchored_and_its_new_ones_free():
    old, plugin = nn.Linear(4, 2), penalty()
    plugin.remember({name: torch.ones_like(p) for name, p in old.named_parameters()}, weights(old))
    grown = nn.Linear(4, 3)
    with torch.no_grad():
        grown.weight[:2], grown.bias[:2] = old.weight, old.bias
    assert float(plugin._evaluate(grown)[0]) == 0
    plugin.remember({name: torch.ones_like(p) for name, p in grown.named_parameters()}, weights(grown))
    assert plugin.anchor["weight"].shape == (3, 4)
    torch.testing.assert_close(plugin.importance["weight"][:, 0], torch.tensor([2.0, 2.0, 1.0]))


class Gradients(SupervisedPlugin):
    """Checks that each step's gradient is that of data loss + (λ/2) Σ_k F_k (θ - θ_k)²."""

    def __init__(self, ewc, lam):
        super().__init__()
        self.ewc, self.lam, self.tasks, self.checked = ewc, lam, [], 0

    def before_training_iteration(self, strategy, **kwargs):
        self.weights = list(strategy.model.parameters())
        data = torch.autograd.grad(cross_entropy(strategy.model(strategy.mb_x), strategy.mb_y), self.weights)
        pull = [
            self.lam * sum((f[name] * (p - w[name]) for f, w in self.tasks), torch.zeros_like(p))
            for name, p in strategy.model.named_parameters()
        ]
        self.expected = [(g + q).detach() for g, q in zip(data, pull, strict=True)]

    def after_update(self, strategy, **kwargs):
        for p, g in zip(self.weights, self.expected, strict=True):
            torch.testing.assert_close(p.grad, g, rtol=1e-4, atol=1e-5)
        self.checked += bool(self.tasks)

    def after_training_exp(self, strategy, **kwargs):
        present = {name: f.clone() for name, f in self.ewc.importance.items()}
        before = [f for f, _ in self.tasks]
        own = {name: f - sum(b[name] for b in before) for name, f in present.items()}
        self.tasks.append((own, weights(strategy.model)))


def test_training_adds_the_gradient_of_kirkpatricks_penalty(train_toy):
    ewc = EWCPlugin(25.0, samples=0)
    check = Gradients(ewc, 25.0)
    train_toy([ewc, check], tasks=3)
    assert check.checked == 8  # two later tasks of four steps each


def test_it_works_on_avalanches_own_benchmarks_and_strategies():
    from avalanche.benchmarks import benchmark_from_datasets
    from avalanche.benchmarks.utils import as_classification_dataset
    from avalanche.training.supervised import Naive
    from torch.utils.data import TensorDataset

    generator = torch.Generator().manual_seed(0)
    sets = []
    for _ in range(2):
        data = TensorDataset(torch.randn(64, 4, generator=generator), torch.arange(64) % 3)
        data.targets = (torch.arange(64) % 3).tolist()
        sets.append(as_classification_dataset(data))
    model, ewc = linear(), EWCPlugin(10.0, samples=20)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    strategy = Naive(
        model=model,
        optimizer=sgd,
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=16,
        plugins=[ewc],
        evaluator=None,
    )
    for experience in benchmark_from_datasets(train=sets).train_stream:
        strategy.train(experience)
    assert ewc.diagnostics["importance_sum"] > 0 and bool((model.weight.grad != 0).any())


def test_the_reported_loss_contains_the_penalty(train_toy):
    class Losses(SupervisedPlugin):
        def __init__(self):
            super().__init__()
            self.seen = []

        def after_backward(self, strategy, **kwargs):
            data = cross_entropy(strategy.mb_output, strategy.mb_y)
            self.seen.append(float(strategy.loss.detach()) - float(data.detach()))

    losses = Losses()
    train_toy([EWCPlugin(1e3), losses], tasks=2)
    assert losses.seen[:4] == pytest.approx([0] * 4, abs=1e-6)
    assert max(losses.seen[4:]) > 0.01


def test_online_mode_keeps_the_latest_anchor_and_a_decayed_sum(train_toy):
    class Keep(SupervisedPlugin):
        def __init__(self):
            super().__init__()
            self.sums = []

        def after_training_exp(self, strategy, **kwargs):
            self.sums.append(({n: f.clone() for n, f in ewc.importance.items()}, weights(strategy.model)))

    ewc, keep = EWCPlugin(5.0, mode="online", decay=0.5, samples=0), Keep()
    _, model = train_toy([ewc, keep], tasks=2)
    from cl_nvrm.plugins.fisher import diagonal_fisher
    from cl_nvrm.spec import catalog

    benchmark = catalog.maker("benchmarks", "toy")(tasks=2, samples=128, seed=0)
    new = diagonal_fisher(model, benchmark.train[1].batches(128), "exact")
    for name, p in model.named_parameters():
        torch.testing.assert_close(ewc.importance[name], 0.5 * keep.sums[0][0][name] + new[name], rtol=1e-3, atol=1e-7)
        assert torch.equal(ewc.anchor[name], p)
    assert ewc.scatter == 0


def test_strength_trades_old_tasks_against_new_ones(toy_spec):
    from cl_nvrm.training.train import run_one

    old, new = [], []
    for lam in (0, 1e2, 1e6):
        result = run_one(toy_spec(f"ewc:lambda={lam}", benchmark="toy:tasks=2", epochs=5), threads=1)
        old.append(result.accuracy[-1][0])
        new.append(result.accuracy[-1][1])
    assert old[0] < old[1] <= old[2] and new[2] < new[1]


def test_lambda_zero_is_naive_bit_for_bit(toy_bits):
    assert toy_bits("ewc:lambda=0") == toy_bits("naive")


@pytest.mark.parametrize(
    "setting", [{"lambda_": -1.0}, {"lambda_": float("nan")}, {"samples": -1}, {"mode": "both"}, {"decay": 2.0}]
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(UserError):
        EWCPlugin(**setting)
