"""Input-output-convex networks: convex at rest under every method, and what convexity costs and does not."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cl_nvrm import data
from cl_nvrm.analysis.convexity import convexity, pairs
from cl_nvrm.benchmark import TaskData
from cl_nvrm.errors import UserError
from cl_nvrm.models.ioc import InputOutputConvex
from cl_nvrm.optim import NVRM, PSGD
from cl_nvrm.plugins.ewc import EWCPlugin
from cl_nvrm.plugins.nvrm import NVRMPlugin
from cl_nvrm.plugins.psgd import PSGDPlugin
from cl_nvrm.plugins.si import SIPlugin
from cl_nvrm.spec import RunSpec, grammar
from cl_nvrm.spec.catalog import maker
from cl_nvrm.training.loop import constrain
from cl_nvrm.training.precision import prepare_network
from cl_nvrm.training.stack import stacked
from cl_nvrm.training.train import run_one
from cl_nvrm.training.weights import load as load_weights

IMAGE = (1, 8, 8)
MODEL = "ioc-mlp(width=32,depth=2)"


def build(name, shape=IMAGE, classes=4, **parameters):
    torch.manual_seed(0)
    return maker("models", name)(shape, classes, **parameters)


def small(**parameters):
    return build("ioc-mlp", width=16, depth=2, **parameters)


def bits(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def split(model):
    """The weights that are free by the paper, and those that must be at least 0, told apart by hand."""
    free, held = {}, {}
    first = True
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            (free if first else held)[f"{name}.weight"] = module.weight
            first = False
            if module.bias is not None:
                free[f"{name}.bias"] = module.bias
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            held[f"{name}.weight"] = module.weight
            free[f"{name}.bias"] = module.bias
    assert len(free) + len(held) == len(list(model.parameters()))
    return free, held


def is_constrained(model):
    return all(bool((weight >= 0).all()) for weight in split(model)[1].values())


def moving_images(tasks=2, samples=96):
    """Tasks of four classes of images, each class around a random one."""
    draws = torch.Generator().manual_seed(0)
    for _ in range(tasks):
        y = torch.arange(samples) % 4
        x = torch.randn(4, *IMAGE, generator=draws)[y] + 0.7 * torch.randn(samples, *IMAGE, generator=draws)
        yield TaskData(x, y)


@pytest.fixture
def train_images(train_toy):
    """Train a network on two tasks of images under plug-ins; return it."""
    from cl_nvrm.benchmark import Benchmark

    def train(plugins, model, **more):
        tasks = list(moving_images())
        benchmark = Benchmark("moving images", tasks, tasks, lambda: model, 0.25)
        return train_toy(plugins, model=model, benchmark=benchmark, **more)[1]

    return train


class Watch:
    """Notes, whenever weights are at rest, whether they keep to the constraint."""

    def __init__(self):
        self.seen = []

    def note(self, strategy, **kwargs):
        self.seen.append(is_constrained(strategy.model))

    before_training = before_training_exp = before_training_iteration = note
    after_training_iteration = after_training_epoch = after_training_exp = note


# -- the constraint


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("name", ["ioc-mlp", "ioc-cnn"])
def test_the_map_is_the_papers_on_all_weights_but_the_first_layers_and_changes_nothing_twice(name, batch_norm):
    model = build(name, width=8, batch_norm=batch_norm)
    assert is_constrained(model)  # as built
    free, held = split(model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_()
    before = {key: weight.detach().numpy().copy() for key, weight in (free | held).items()}
    places = {key: weight.data_ptr() for key, weight in model.named_parameters()}
    model.constrain()
    for key, weight in free.items():
        assert np.array_equal(weight.detach().numpy(), before[key]), key
    for key, weight in held.items():
        w = before[key]
        assert (w < 0).any()
        np.testing.assert_allclose(weight.detach().numpy(), np.where(w < 0, np.exp(w - 5), w), rtol=1e-6)
        assert weight[torch.from_numpy(w < 0)].max() <= np.exp(-5) * (1 + 1e-6)
    once = bits(model)
    model.constrain()
    assert same(bits(model), once)
    assert {key: weight.data_ptr() for key, weight in model.named_parameters()} == places


def test_without_the_constraint_the_network_is_the_same_but_for_its_negative_weights():
    convex, plain = small(), small(convex=False)
    assert not hasattr(plain, "constrain") and not is_constrained(plain)
    for w, free in zip(convex.parameters(), plain.parameters(), strict=True):
        assert torch.equal(w[free >= 0], free[free >= 0])
    convex.load_state_dict({f"layers.{name}": tensor for name, tensor in plain.state_dict().items()})
    x = torch.randn(5, *IMAGE)
    assert torch.equal(convex(x), plain(x))


@pytest.mark.parametrize("layer", [nn.Tanh(), nn.Sigmoid(), nn.LayerNorm(3), nn.ELU(alpha=2.0)], ids=str)
def test_a_layer_that_would_not_keep_convexity_is_refused(layer):
    with pytest.raises(ValueError, match="a convex network takes Flatten, Linear"):
        InputOutputConvex(nn.Linear(3, 3), layer, nn.Linear(3, 1))


@pytest.mark.parametrize(
    ("name", "asked", "says"),
    [
        ("ioc-mlp", {"width": 0}, "width must be at least 1 and depth at least 0, got 0, 3"),
        ("ioc-mlp", {"depth": -1}, "got 800, -1"),
        ("ioc-cnn", {"width": 0}, "width must be at least 1, got 0"),
        ("ioc-cnn", {"shape": (1, 8, 7)}, "ioc-cnn needs images of at least 8x8 pixels, got 8x7"),
    ],
)
def test_what_cannot_be_built_says_what_would_do(name, asked, says):
    with pytest.raises(ValueError, match=says):
        build(name, **asked)


def test_their_sizes_are_those_worked_out_by_hand():
    with torch.device("meta"):
        mlp, cnn = (sum(p.numel() for p in build(n, (3, 32, 32), 10).parameters()) for n in ("ioc-mlp", "ioc-cnn"))
    assert mlp == 3072 * 800 + 2 * 800 * 800 + 3 * 2 * 800 + 801 * 10
    kernels = 9 * 3 * 32 + 9 * 32 * 64 + 9 * 64 * 64 + 64 * 64
    assert cnn == kernels + 2 * (32 + 3 * 64) + 65 * 10 == 61_354


# -- the midpoint test


class Known(nn.Module):
    """x ↦ (x², -x², 3x) for numbers x: convex, concave, both."""

    def forward(self, x):
        return torch.cat([x.square(), -x.square(), 3 * x], dim=1)


def test_the_midpoint_test_tells_convex_from_concave_and_measures_by_how_much():
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [4.0]])
    found = convexity(Known(), x, y)
    assert found.n == 6 and found.violated == pytest.approx(2 / 6)
    assert found.largest == pytest.approx((4 - 1) ** 2 / 4)  # (x - y)²/4 for a square
    assert convexity(nn.Linear(1, 3), x, y).violated == 0


def test_pairs_are_of_two_different_inputs_and_of_points_like_them():
    inputs = torch.arange(60.0).view(20, 3)
    x, y = pairs(inputs, 500, seed=1)
    assert x.shape == y.shape == (1000, 3)
    rows = {tuple(row) for row in inputs.tolist()}
    assert all(tuple(row) in rows for row in torch.cat([x[:500], y[:500]]).tolist())
    assert not (x[:500] == y[:500]).all(1).any()
    assert x[500:].mean() == pytest.approx(29.5, abs=2) and x[500:].std() == pytest.approx(float(inputs.std()), rel=0.1)
    assert torch.equal(pairs(inputs, 500, seed=1)[0], x) and not torch.equal(pairs(inputs, 500, seed=2)[0], x)


def test_the_test_leaves_the_model_as_it_was():
    model = small().train()
    inputs = torch.randn(30, *IMAGE)
    before, state = bits(model), torch.get_rng_state()
    convexity(model, *pairs(inputs, 40))
    assert same(bits(model), before) and model.training and next(model.parameters()).dtype == torch.float32
    assert torch.equal(torch.get_rng_state(), state)


def test_what_cannot_be_tested_is_refused():
    x = torch.randn(3, 1)
    with pytest.raises(UserError, match="one shape with at least one row"):
        convexity(Known(), x, x[:2])
    with pytest.raises(UserError, match="tolerance"):
        convexity(Known(), x, x, tolerance=-1)
    with pytest.raises(UserError, match="not finite"):
        convexity(Known(), x / 0, x)
    with pytest.raises(UserError, match="at least two inputs"):
        pairs(x[:1], 3)


@pytest.mark.parametrize("name", ["ioc-mlp", "ioc-cnn"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_untrained_networks_are_convex_and_without_the_constraint_are_not(name, batch_norm):
    x, y = pairs(torch.randn(60, *IMAGE), 200)
    found = convexity(build(name, width=16, batch_norm=batch_norm), x, y)
    assert found.violated == 0 and found.largest < 0
    assert convexity(build(name, width=16, batch_norm=batch_norm, convex=False), x, y).violated > 0.1


# -- in training


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize(
    "plugins",
    [
        [],
        [lambda: NVRMPlugin(0.1, seed=1)],
        [lambda: PSGDPlugin(0.1, seed=1)],
        [lambda: SIPlugin(1.0), lambda: EWCPlugin(10.0), lambda: NVRMPlugin(0.1), lambda: PSGDPlugin(0.1)],
    ],
    ids=["naive", "nvrm", "psgd", "all"],
)
def test_weights_at_rest_keep_to_the_constraint_whenever_a_plug_in_can_look(train_images, plugins, batch_norm):
    watch, model = Watch(), small(batch_norm=batch_norm)
    with torch.no_grad():
        model.layers[-1].weight.neg_()  # the start counts, too
    train_images([watch, *(make() for make in plugins)], model, epochs=3)
    assert len(watch.seen) > 20 and all(watch.seen)


@pytest.mark.parametrize("wrap", [NVRM, PSGD])
def test_under_optimizers_with_noise_too(train_images, wrap):
    watch = Watch()
    train_images([watch], small(), optimizer=lambda m: wrap(torch.optim.SGD(m.parameters(), lr=0.1), 0.1, seed=1))
    assert all(watch.seen)


def test_noise_that_lasts_is_constrained_once_a_step_as_in_the_optimizer(train_images):
    plugin = train_images([PSGDPlugin(0.05, seed=3)], small(), optimizer=lambda m: torch.optim.SGD(m.parameters(), 0.1))
    optimizer = train_images([], small(), optimizer=lambda m: PSGD(torch.optim.SGD(m.parameters(), 0.1), 0.05, seed=3))
    assert same(bits(plugin), bits(optimizer))


def test_training_is_the_optimizers_step_and_then_the_map(train_images):
    """Against a loop of its own, of one batch a task."""
    model, mine = small(batch_norm=False), small(batch_norm=False)
    train_images([], model, optimizer=lambda m: torch.optim.SGD(m.parameters(), 0.5), epochs=1)
    optimizer = torch.optim.SGD(mine.parameters(), 0.5)
    from cl_nvrm.benchmark import ShuffledBatches
    from cl_nvrm.spec import derived_seed

    mapped = 0
    for k, task in enumerate(moving_images()):
        for x, y, _ in ShuffledBatches(task, 32, lambda k=k: derived_seed(0, "batches", k, 0)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(mine(x), y).backward()
            optimizer.step()
            with torch.no_grad():
                for weight in split(mine)[1].values():
                    negative = weight < 0
                    weight[negative] = torch.exp(weight[negative] - 5)
                    mapped += int(negative.sum())
    assert mapped > 50
    for key, weight in mine.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], weight, rtol=1e-6, atol=1e-7)


def test_si_has_the_constraints_part_of_each_step_in_its_path(train_images):
    class Path:
        def __init__(self):
            self.total = {}

        def before_training_exp(self, strategy, **kwargs):
            self.total = {name: torch.zeros_like(p) for name, p in strategy.model.named_parameters()}

        def before_training_iteration(self, strategy, **kwargs):
            self.before = {name: p.detach().clone() for name, p in strategy.model.named_parameters()}

        def after_training_iteration(self, strategy, **kwargs):
            for name, p in strategy.model.named_parameters():
                self.total[name] -= p.grad * (p.detach() - self.before[name])

    path, si = Path(), SIPlugin(0.0)
    model = small(batch_norm=False)
    train_images([path, si], model, optimizer=lambda m: torch.optim.SGD(m.parameters(), 0.5))
    for name, omega in si.omega.items():
        torch.testing.assert_close(omega, path.total[name], rtol=1e-4, atol=1e-7)
    jumps = si.omega["layers.5.weight"]
    assert (jumps < 0).any()  # a plain gradient step only ever adds: g Δθ = -lr g²


def test_the_constraint_is_found_through_what_wraps_a_network():
    calls = []
    inner = nn.Linear(1, 1)
    inner.constrain = lambda: calls.append(1)
    wrapped = prepare_network(inner, precision="bfloat16", channels_last=False, compiled=False)
    constrain(wrapped)
    constrain(SimpleNamespace(network=wrapped))
    constrain(nn.Linear(1, 1))
    assert calls == [1, 1]


# -- as runs, on the embedded digits


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def ioc_spec(digits):
    def make(strategy="naive", model=MODEL, subset=200, more=",holdout=100", **changes):
        values = {"seed": 0, "epochs": 6, "batch_size": 50, "lr": 3e-3, "weight_decay": 0.0} | changes
        optimizer = values.pop("optimizer", "adam")
        return RunSpec(
            strategy=grammar.canonical(grammar.parse_sum(strategy)),
            benchmark=str(grammar.parse("benchmarks", f"noisy-mnist:model={model},subset={subset}{more}")),
            dataset="digits",
            dataset_sha256=digits.sha256,
            optimizer=str(grammar.parse("optimizers", optimizer)),
            **values,
        )

    return make


@pytest.fixture
def trained(ioc_spec, tmp_path):
    """Run a spec; return the network with the final weights."""

    def train(*arguments, **changes):
        spec = ioc_spec(*arguments, **changes)
        result = run_one(spec, keep_weights=tmp_path / "weights")
        assert result.status == "done", result.error
        network = grammar.parse_nested("models", changes.get("model", MODEL)).make((1, 28, 28), 10)
        model = prepare_network(network, precision=spec.precision, channels_last=spec.channels_last, compiled=False)
        with torch.no_grad():
            for weight in model.parameters():
                weight.fill_(-1.0)
        load_weights(tmp_path / "weights", model, spec.id)
        return model

    return train


RUNS = [
    ("naive", {}),
    ("nvrm", {}),
    ("ewc+nvrm", {}),
    ("psgd:variability=0.01", {}),
    ("sam", {}),
    ("naive", {"optimizer": "psgd", "lr": 0.05}),
    ("naive", {"optimizer": "nvrm-adam"}),
    ("nvrm", {"precision": "bfloat16"}),
    ("nvrm", {"model": "ioc-cnn(width=8)", "channels_last": True, "epochs": 2}),
]


@pytest.mark.parametrize(("strategy", "changes"), RUNS, ids=str)
def test_the_final_network_of_a_run_is_convex(trained, digits, strategy, changes):
    model = trained(strategy, **changes)
    assert is_constrained(model)
    found = convexity(model, *pairs(digits.test_x[:500], 300))
    assert found.violated == 0 and found.n == 6000


@pytest.mark.parametrize("model", ["mlp(width=32,depth=2)", "ioc-mlp(width=32,depth=2,convex=false)"])
def test_an_unconstrained_network_fails_the_midpoint_test(trained, digits, model):
    found = convexity(trained(model=model), *pairs(digits.test_x[:500], 300))
    assert found.violated > 0.1 and found.largest > 0.1


def test_differences_of_logits_need_not_be_convex(trained, digits):
    """So decision regions are not restricted to convex sets."""

    class Differences(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            logits = self.network(x)
            return logits[:, 1:] - logits[:, :1]

    found = convexity(Differences(trained()), *pairs(digits.test_x[:500], 300))
    assert 0.1 < found.violated < 0.9


def test_a_class_can_be_the_outside_of_an_interval():
    network = InputOutputConvex(nn.Linear(1, 2), nn.ELU(), nn.Linear(2, 2))
    with torch.no_grad():
        for weight, values in zip(
            network.parameters(), ([[1.0], [-1.0]], [0.0, 0.0], [[0.0, 0.0], [1.0, 1.0]], [1.0, 0.0]), strict=True
        ):
            weight.copy_(torch.tensor(values))
    assert is_constrained(network)
    assert network(torch.tensor([[-3.0], [0.0], [3.0]])).argmax(1).tolist() == [1, 0, 1]


def test_with_one_hidden_layer_the_constraint_excludes_no_classifier():
    plain, convex = (build("ioc-mlp", width=16, depth=1, batch_norm=False, convex=c) for c in (False, True))
    convex.load_state_dict({f"layers.{name}": tensor for name, tensor in plain.state_dict().items()})
    last = convex.layers[-1].weight
    with torch.no_grad():
        last.sub_(last.amin(0))
    assert is_constrained(convex) and not is_constrained(plain)
    x = torch.randn(50, *IMAGE)
    torch.testing.assert_close(convex(x).softmax(1), plain(x).softmax(1))


FITS = ["mlp(width=128,depth=4)", "ioc-mlp(width=128,depth=4,convex=false)"]


@pytest.mark.parametrize("model", [*FITS, "ioc-mlp(width=128,depth=4)"])
def test_random_labels_are_fitted_by_what_is_not_convex_and_hardly_by_what_is(ioc_spec, model):
    """90 % wrong labels are labels at random."""
    random = {"subset": 300, "more": ",holdout=100,noise=symmetric,rate=0.9"}
    result = run_one(ioc_spec(model=model, epochs=40, batch_size=30, lr=1e-3 if model == FITS[0] else 3e-4, **random))
    right = result.curves["training accuracy"]
    if model in FITS:
        assert max(right) > 0.98
    else:
        assert max(right) < 0.6


def test_trials_stack_without_batch_normalisation_and_are_refused_with_it():
    members = [build("ioc-mlp", width=8, depth=2, batch_norm=False) for _ in range(3)]
    together = stacked(members)
    with torch.no_grad():
        together.layers[3].weight[1].fill_(-1.0)
    constrain(together)
    first, second, third = together.members()
    assert all(map(is_constrained, (first, second, third)))
    assert same(bits(first), bits(members[0])) and same(bits(third), bits(members[2]))
    assert torch.equal(second.layers[3].weight, torch.full((8, 8), -1.0).sub(5).exp())
    with pytest.raises(UserError, match="has buffers or dropout and cannot be stacked"):
        stacked([small()])
