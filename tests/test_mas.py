"""Memory aware synapses, and the anchor without importances that they have to beat."""

import pytest
import torch
from avalanche.core import SupervisedPlugin
from torch import nn

from cl_nvrm.errors import UserError
from cl_nvrm.models.mlp import MLP
from cl_nvrm.plugins.l2 import L2Plugin
from cl_nvrm.plugins.mas import MASPlugin, output_sensitivity
from cl_nvrm.plugins.nvrm import NVRMPlugin
from cl_nvrm.spec import catalog
from cl_nvrm.training.stack import run_stack, stackable, stacked
from cl_nvrm.training.train import run_one
from tests.test_checkpoint import measured


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.inner(torch.tanh(self.inner(x)))))


def convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Dropout(), nn.Linear(64, 3)
    )


def tied():
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 3))
    model[2].weight = model[0].weight
    return model


NETWORKS = {
    "mlp": lambda: MLP(6, 3, width=8),
    "one layer": lambda: nn.Linear(6, 3),
    "no bias": lambda: nn.Sequential(nn.Linear(6, 5, bias=False), nn.Tanh(), nn.Linear(5, 3)),
    "in-place": lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(8, 3)),
    "conv": convolutional,
    "layer used twice": Twice,
    "tied": tied,
}


def network(name):
    torch.manual_seed(0)
    return NETWORKS[name]()


def inputs(name, count=10):
    shape = (count, 1, 6, 6) if name == "conv" else (count, 6)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def batched(x, size, task=0):
    none = torch.zeros(len(x), dtype=torch.long)
    return [list(b) for b in zip(x.split(size), none.split(size), (none + task).split(size), strict=True)]


def brute_force(model, x, *task):
    """One backward pass a sample: the definition."""
    model.eval()
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for i in range(len(x)):
        model.zero_grad()
        model(x[i : i + 1], *task).norm().square().backward()
        for name, p in model.named_parameters():
            total[name] += 0 if p.grad is None else p.grad.abs() / len(x)
    model.zero_grad()
    return total


def bits(model):
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("name", NETWORKS)
def test_importances_equal_one_backward_pass_a_sample(name):
    model, x = network(name), inputs(name)
    expected = brute_force(model, x)
    for size in (1, 4, 10):
        found = output_sensitivity(model, batched(x, size))
        assert found.keys() == expected.keys()
        for key in expected:
            torch.testing.assert_close(found[key], expected[key], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["in-place", "conv"])
def test_the_pass_leaves_modes_statistics_gradients_and_random_state_alone(name):
    model, x = network(name).train(), inputs(name)
    buffers, before = [b.clone() for b in model.buffers()], torch.get_rng_state()
    output_sensitivity(model, batched(x, 4))
    assert all(m.training for m in model.modules()) and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(buffers, model.buffers(), strict=True))
    assert torch.equal(before, torch.get_rng_state())
    assert not any(m._forward_hooks for m in model.modules())


def test_samples_do_not_cancel_as_they_do_in_the_mean_of_a_batch():
    model, x = network("mlp"), inputs("mlp", 64)
    ours = output_sensitivity(model, batched(x, 64))
    model(x).square().sum(1).mean().backward()
    assert all(bool((ours[n] >= p.grad.abs() * (1 - 1e-4) - 1e-6).all()) for n, p in model.named_parameters())
    assert sum(float(f.sum()) for f in ours.values()) > 1.1 * sum(float(p.grad.abs().sum()) for p in model.parameters())


def test_the_head_of_the_task_counts_and_frozen_weights_are_left_out():
    torch.manual_seed(0)
    model, x = MLP(6, 3, width=8, heads=2), inputs("mlp")
    model.heads[0].bias.requires_grad_(False)
    found, expected = output_sensitivity(model, batched(x, 5, task=1), multi_task=True), brute_force(model, x, 1)
    assert "heads.0.bias" not in found and float(found["heads.0.weight"].sum()) == 0
    torch.testing.assert_close(found["heads.1.weight"], expected["heads.1.weight"], rtol=1e-4, atol=1e-6)
    mixed = [[x, x, torch.arange(10) % 2]]
    with pytest.raises(UserError, match="one task at a time"):
        output_sensitivity(model, mixed, multi_task=True)


def test_a_stack_gives_each_trial_its_own():
    torch.manual_seed(0)
    members, x = [MLP(6, 3, width=8) for _ in range(2)], inputs("mlp", 20).view(2, 10, 6)
    y = torch.zeros(2, 10, dtype=torch.long)
    together = output_sensitivity(stacked(members), [[x, y, y]])
    for k, member in enumerate(members):
        for key, alone in output_sensitivity(member, batched(x[k], 10)).items():
            assert torch.equal(together[key][k], alone)


@pytest.mark.parametrize("strategy", ["mas", "l2-anchor"])
def test_stacked_trials_end_as_they_would_alone(toy_spec, strategy):
    specs = [toy_spec(strategy, seed=seed, benchmark="toy:tasks=2,samples=128", epochs=1) for seed in range(2)]
    assert stackable(specs[0])
    for spec, result in zip(specs, run_stack(specs, threads=1), strict=True):
        alone = run_one(spec, threads=1)
        assert result.losses[-1][-1] == pytest.approx(alone.losses[-1][-1], rel=1e-2)
        for own, other in zip(result.diagnostics[strategy], alone.diagnostics[strategy], strict=True):
            assert own == pytest.approx(other, rel=1e-2)


class Keep(SupervisedPlugin):
    """Keeps the weights of the end of each task, and copies of the importances."""

    def __init__(self, penalty):
        super().__init__()
        self.penalty, self.weights, self.importances = penalty, [], []

    def after_training_exp(self, strategy, **kwargs):
        self.weights.append({n: p.detach().clone() for n, p in strategy.model.named_parameters()})
        self.importances.append({n: f.clone() for n, f in self.penalty.importance.items()})


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_importances_sum_up_over_tasks_at_clean_weights(train_toy, noise):
    mas = MASPlugin(0.01, samples=0)
    keep = Keep(mas)
    _, model = train_toy([mas, NVRMPlugin(noise), keep], tasks=2)
    tasks = catalog.maker("benchmarks", "toy")(tasks=2, samples=128, seed=0).train
    own = [brute_force_at(model, weights, task) for weights, task in zip(keep.weights, tasks, strict=True)]
    for name, weight in keep.weights[1].items():
        torch.testing.assert_close(keep.importances[0][name], own[0][name], rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(mas.importance[name], own[0][name] + own[1][name], rtol=1e-3, atol=1e-5)
        assert torch.equal(mas.anchor[name], weight)
    assert mas.scatter == 0


def brute_force_at(model, weights, task):
    model.load_state_dict(weights)
    return brute_force(model, task.images)


def test_the_penalty_is_nothing_at_the_anchor_and_lambda_omega_times_the_squared_distance_elsewhere():
    model, mas = nn.Linear(3, 2), MASPlugin(0.25)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    mas.remember({name: torch.full_like(w, 3.0) for name, w in weights.items()}, weights)
    value, gradients = mas._evaluate(model)
    assert float(value) == 0 and all(float(g.abs().sum()) == 0 for g in gradients.values())
    with torch.no_grad():
        model.weight += 2.0
    value, gradients = mas._evaluate(model)
    assert float(value) == pytest.approx(0.25 * 3 * 4 * 6)
    torch.testing.assert_close(gradients["weight"], torch.full((2, 3), 2 * 0.25 * 3 * 2.0))


def test_the_l2_anchor_is_the_latest_and_its_pull_stays_the_same(train_toy):
    l2 = L2Plugin(0.5)
    keep = Keep(l2)
    _, model = train_toy([l2, keep], tasks=3)
    for name, weight in keep.weights[-1].items():
        assert torch.equal(l2.anchor[name], weight)
        assert all(torch.equal(f[name], torch.ones_like(weight)) for f in keep.importances)
    assert float(l2._evaluate(model)[0]) == 0
    with torch.no_grad():
        model.trunk[1].bias += 2.0
    assert float(l2._evaluate(model)[0]) == pytest.approx(0.5 * 4 * model.trunk[1].bias.numel())


def test_samples_are_a_seeded_choice(train_toy):
    def diagnostics(**settings):
        mas = MASPlugin(0.0, **settings)
        train_toy([mas], tasks=1)
        return mas.diagnostics["importance_sum"]

    few = diagnostics(samples=10, seed=0)
    assert few == diagnostics(samples=10, seed=0) != diagnostics(samples=10, seed=1)
    assert diagnostics(samples=128, seed=0) == pytest.approx(diagnostics(samples=0, seed=1), rel=1e-5)


@pytest.mark.parametrize("strategy", ["mas:lambda=0", "l2-anchor:strength=0"])
@pytest.mark.parametrize("benchmark", ["toy:tasks=2,samples=128", "toy:tasks=2,samples=128,heads=true"])
def test_strength_zero_is_naive_bit_for_bit(toy_bits, strategy, benchmark):
    assert toy_bits(strategy, benchmark=benchmark) == toy_bits("naive", benchmark=benchmark)


@pytest.mark.parametrize("make", [MASPlugin, L2Plugin])
def test_a_huge_strength_keeps_the_weights_where_they_were(train_toy, make):
    def moved(strength):
        plugin = make(strength)
        keep = Keep(plugin)
        train_toy([plugin, keep], tasks=2, optimizer=lambda m: torch.optim.Adam(m.parameters(), lr=1e-3))
        first, last = keep.weights
        return sum(float((plugin.importance[n] * (last[n] - w).square()).sum()) for n, w in first.items())

    assert moved(1e6) < 0.1 * moved(0.0)


@pytest.mark.parametrize("strategy", ["mas", "l2-anchor"])
def test_strength_trades_old_tasks_against_new_ones(toy_spec, strategy):
    key = "lambda" if strategy == "mas" else "strength"
    runs = [
        run_one(toy_spec(f"{strategy}:{key}={value}", benchmark="toy:tasks=2", epochs=3), threads=1)
        for value in (0, 0.1, 1e5)
    ]
    (old, new) = zip(*(run.accuracy[-1] for run in runs), strict=True)
    assert old[0] < old[1] <= old[2] and new[2] < new[1]


@pytest.mark.parametrize("strategy", ["mas", "l2-anchor"])
def test_a_run_goes_on_from_a_checkpoint_to_the_same_bits(toy_spec, tmp_path, strategy):
    class Stop(Exception):
        pass

    def stop(history, share):
        raise Stop

    spec = toy_spec(f"{strategy}+nvrm", benchmark="toy:samples=128", epochs=1)
    file = tmp_path / "checkpoints" / "run.safetensors"
    whole = run_one(spec, threads=1)
    with pytest.raises(Stop):
        run_one(spec, threads=1, checkpoint=file, on_task=stop)
    shares = []
    resumed = run_one(spec, threads=1, checkpoint=file, on_task=lambda history, share: shares.append(share))
    assert len(shares) == 2
    assert measured(resumed) == measured(whole)


@pytest.mark.parametrize("setting", [{"lambda_": -1.0}, {"lambda_": float("nan")}, {"samples": -1}], ids=str)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(UserError):
        MASPlugin(**setting)


@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_a_compiled_network_has_the_same_importances(name):
    model, x = network(name), inputs(name)
    expected = output_sensitivity(model, batched(x, 5))
    model.compile(backend="eager")  # no C++, and hooks as silent
    model.eval()(x)
    found = output_sensitivity(model, batched(x, 5))
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_where_no_layer_is_heard_samples_are_taken_one_by_one(monkeypatch):
    model, x = network("mlp"), inputs("mlp")
    expected = output_sensitivity(model, batched(x, 5))
    monkeypatch.setattr(
        nn.Linear, "register_forward_hook", lambda self, hook: nn.Identity().register_forward_hook(hook)
    )
    found = output_sensitivity(model, batched(x, 5))
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("outputs", ["sum", "mean"])
def test_importances_of_batches_are_those_of_their_mean_gradients(outputs):
    model, x = network("mlp"), inputs("mlp")
    found = output_sensitivity(model, [[x[:6], None], [x[6:], None]], of="batches", outputs=outputs)
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for part in (x[:6], x[6:]):
        model.zero_grad()
        each = model(part).square()
        (each.sum() / len(part) / (3 if outputs == "mean" else 1)).backward()
        for name, p in model.named_parameters():
            expected[name] += p.grad.abs() / 2
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-5, atol=1e-8)


def test_the_mean_over_outputs_is_the_sum_over_their_number():
    model, x = network("mlp"), inputs("mlp")
    both = [output_sensitivity(model, [[x, torch.zeros(10)]], outputs=kind) for kind in ("sum", "mean")]
    for name, value in both[0].items():
        assert torch.allclose(value / 3, both[1][name], rtol=1e-5, atol=1e-8)
