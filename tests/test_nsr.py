"""Neuron steadiness regularisation: what is added to the loss, what is remembered, and what comes of it."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import ReplayPlugin
from avalanche.training.supervised import Naive
from torch import nn
from torch.nn.functional import cross_entropy

from cl_nvrm.analysis.complexity import features, intra_class_variance
from cl_nvrm.errors import UserError
from cl_nvrm.models.mlp import MLP
from cl_nvrm.noise import Perturbation
from cl_nvrm.plugins.ewc import EWCPlugin
from cl_nvrm.plugins.nsr import NSRPlugin
from cl_nvrm.plugins.nvrm import NVRMPlugin
from cl_nvrm.spec import catalog
from cl_nvrm.training.train import run_one

LAYERS = {"logits": "heads.0", "trunk.1": "trunk.1", "trunk.2": "trunk.2"}  # two names of one tensor; linear; ReLU


def bits(model):
    return [p.detach().clone() for p in model.parameters()]


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.05)


def network():
    torch.manual_seed(0)
    return MLP(20, 4, width=16, depth=1)


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


class Batches(SupervisedPlugin):
    """Keeps what was trained on, and what was added to the loss."""

    def __init__(self):
        super().__init__()
        self.seen, self.terms = [], []

    def before_forward(self, strategy, **kwargs):
        self.seen.append((strategy.mb_x.clone(), strategy.mb_y.clone()))

    def after_backward(self, strategy, **kwargs):
        batch_loss = cross_entropy(strategy.mb_output, strategy.mb_y)
        self.terms.append(float(strategy.loss.detach() - batch_loss.detach()))


def uneven(samples=76):
    """One task whose last batch of 32 has 12 samples."""
    from cl_nvrm.spec import catalog

    return catalog.maker("benchmarks", "toy")(tasks=1, samples=samples, seed=0)


def responses(model, layer, x):
    """What a layer makes of inputs, by the layers themselves."""
    before = model.trunk[:2](x)
    return {"trunk.1": before, "trunk.2": before.relu(), "logits": model(x)}[layer]


@pytest.mark.parametrize("layer", LAYERS)
def test_with_a_memory_of_one_batch_the_term_is_numpys_variance_within_classes(train_toy, layer):
    """Must show (1): Σ_j α_j Var_j with α_j the share in the batch, the mean over units; also in the uneven batch."""
    model, batches = network(), Batches()
    frozen = torch.optim.SGD(model.parameters(), lr=0.0)
    train_toy(
        [NSRPlugin(3.0, memory=1, layer=layer), batches], model=model, optimizer=lambda _: frozen, benchmark=uneven()
    )
    assert [len(y) for _, y in batches.seen] == [32, 32, 12]
    for (x, labels), term in zip(batches.seen, batches.terms, strict=True):
        r, y = responses(model, layer, x).detach().double().numpy(), labels.numpy()
        variance = sum((y == j).mean() * np.var(r[y == j], axis=0) for j in np.unique(y))
        assert term == pytest.approx(3.0 * variance.mean(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize("memory", [1, 2, 5])
@pytest.mark.parametrize("layer", LAYERS)
def test_it_equals_a_hand_written_loop_also_under_noise(train_toy, layer, memory, noise):
    """The published code's faults would show here: one sample's mean for all, only active units, batches of one size.

    Here the queue keeps the responses themselves, and nothing of them is in the graph.
    """
    model, batches = network(), Batches()
    by_hand, queue, xi = deepcopy(model), [], Perturbation(noise, seed=3)
    plugins = [NSRPlugin(0.7, memory=memory, layer=layer), NVRMPlugin(noise, seed=3), batches]
    train_toy(plugins, model=model, optimizer=sgd, benchmark=uneven(), epochs=3)
    weights = list(by_hand.parameters())
    for x, y in batches.seen:
        with xi.around(weights):
            r = responses(by_hand, layer, x)
            queue = [*queue, (r.detach().clone(), y)][-memory:]
            past, labels = (torch.cat(part) for part in zip(*queue, strict=True))
            means = torch.stack([past[labels == label].mean(0) for label in y])
            loss = cross_entropy(by_hand(x), y) + 0.7 * ((r - means) ** 2).mean()
            gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for w, g in zip(weights, gradients, strict=True):
                w.sub_(0.05 * g)
    for p, q in zip(bits(model), bits(by_hand), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("memory", [1, 3])
def test_the_queue_is_never_longer_than_the_memory_and_outside_of_the_graph(train_toy, memory):
    """Must show (2)."""
    lengths, plugin = [], NSRPlugin(memory=memory)

    class Look(SupervisedPlugin):
        def after_backward(self, strategy, **kwargs):
            lengths.append(len(plugin.queue))
            assert not any(t.requires_grad or t.grad_fn for entry in plugin.queue for t in entry)

    train_toy([plugin, Look()])  # two tasks of four batches
    assert lengths == [min(i + 1, memory) for i in range(4)] * 2
    assert plugin.queue == []


def test_the_classes_of_one_task_are_not_those_of_the_next(train_toy):
    """With a long memory, the first batch of the second task has its own means alone."""
    plugin, batches = NSRPlugin(2.0, memory=100), Batches()
    _, model = train_toy([plugin, batches], optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.0))
    x, y = batches.seen[4]
    assert batches.terms[4] == pytest.approx(2.0 / 4 * intra_class_variance(model(x), y), rel=1e-4)


def test_equal_labels_of_two_heads_are_two_classes(train_toy):
    """Replay mixes samples of both tasks into one batch."""

    class Check(SupervisedPlugin):
        mixed = 0

        def after_backward(self, strategy, **kwargs):
            pairs = set(zip(strategy.mb_task_id.tolist(), strategy.mb_y.tolist(), strict=True))
            assert len(plugin.queue[-1][0]) == len(pairs)
            self.mixed += len(pairs) > 4

    plugin, check = NSRPlugin(), Check()
    train_toy([plugin, check, ReplayPlugin(mem_size=64)], heads=True)
    assert check.mixed == 4


def test_lambda_zero_is_the_plain_method_bit_for_bit(train_toy):
    for layer in ("logits", "trunk.2", "auto"):
        plain, same = (bits(train_toy(plugins, model=network())[1]) for plugins in ([], [NSRPlugin(0.0, layer=layer)]))
        assert equal(plain, same)
    assert not equal(plain, bits(train_toy([NSRPlugin()], model=network())[1]))


def test_the_logits_by_their_modules_name_are_the_logits(train_toy):
    one, other = (bits(train_toy([NSRPlugin(layer=layer)], model=network())[1]) for layer in ("logits", "heads.0"))
    assert equal(one, other)


def test_feature_maps_count_place_by_place(train_toy):
    torch.manual_seed(0)
    layers = [nn.Unflatten(1, (1, 4, 5)), nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten()]
    model, batches = nn.Sequential(*layers, nn.Linear(60, 4)), Batches()
    frozen = torch.optim.SGD(model.parameters(), lr=0.0)
    train_toy(
        [NSRPlugin(2.0, memory=1, layer="2"), batches], model=model, optimizer=lambda _: frozen, benchmark=uneven()
    )
    x, y = batches.seen[-1]
    maps = model[:3](x).detach().flatten(1)
    assert batches.terms[-1] == pytest.approx(2.0 * intra_class_variance(maps, y) / 60, rel=1e-3)


class Wide(nn.Module):
    """Layers whose responses differ in size by known factors: widest before the activation of the first one."""

    def __init__(self, scale):
        super().__init__()
        torch.manual_seed(0)
        self.flat, self.first, self.act, self.second = nn.Flatten(), nn.Linear(20, 8), nn.Tanh(), nn.Linear(8, 4)
        with torch.no_grad():
            self.first.weight.mul_(100.0)
            self.second.weight.mul_(scale)

    def forward(self, x):
        return self.second(self.act(self.first(self.flat(x))))


@pytest.mark.parametrize(("scale", "layer"), [(0.1, "act"), (10.0, "logits")])
def test_auto_takes_the_layer_with_the_largest_variance_behind_its_activation(train_toy, scale, layer):
    model, batches, plugin = Wide(scale), Batches(), NSRPlugin(layer="auto")
    start = deepcopy(model)
    train_toy([plugin, batches], model=model, tasks=1)
    x, y = batches.seen[0]
    spread = {name: intra_class_variance(features(start, name, [(x, y)])[0], y) for name in ("act", "logits")}
    assert plugin.regularised == layer == max(spread, key=lambda name: spread[name])
    assert set(plugin.diagnostics) == {f"intra_class_variance/{layer}", f"davies_bouldin/{layer}", "by_epoch"}
    assert equal(bits(model), bits(train_toy([NSRPlugin(layer=layer)], model=Wide(scale), tasks=1)[1]))


def test_auto_chooses_once_a_task_and_among_its_own_heads(train_toy):
    chosen = []

    class Look(SupervisedPlugin):
        def after_training_iteration(self, strategy, **kwargs):
            chosen.append((strategy.clock.train_exp_counter, plugin.regularised))

    plugin = NSRPlugin(layer="auto")
    train_toy([plugin, Look()], heads=True)
    assert len(set(chosen)) == 2 and all(layer for _, layer in chosen)


def test_it_can_start_later(train_toy):
    """Until then training is plain, bit for bit."""
    after = []

    class Look(SupervisedPlugin):
        def after_training_epoch(self, strategy, **kwargs):
            after.append(bits(strategy.model))

    for plugins in ([Look()], [NSRPlugin(start=2), Look()], [NSRPlugin(start=1, layer="auto"), Look()]):
        train_toy(plugins, tasks=1, epochs=3, model=network())
    plain, third, second = after[:3], after[3:6], after[6:]
    assert [equal(p, q) for p, q in zip(plain, third, strict=True)] == [True, True, False]
    assert [equal(p, q) for p, q in zip(plain, second, strict=True)] == [True, False, False]
    with pytest.raises(UserError, match="start=3 leaves out all 3 epochs"):
        train_toy([NSRPlugin(start=3)], tasks=1, epochs=3)


@pytest.mark.parametrize("layer", ["logits", "trunk.2", "auto"])
@pytest.mark.parametrize("heads", [False, True])
def test_nothing_is_left_on_the_network(train_toy, layer, heads):
    layer = f"network.{layer}" if heads and "." in layer else layer
    for strategy_class in (None, Naive):
        strategy, model = train_toy([NSRPlugin(layer=layer)], heads=heads, strategy_class=strategy_class)
        assert hooks(model) == 0 and not {"_around", "_train_exp", "training_epoch", "forward"} & set(vars(strategy))


class Failing(SupervisedPlugin):
    """Breaks in the second iteration of the given event."""

    def __init__(self, event):
        super().__init__()
        self.calls = 0

        def broken(strategy, **kwargs):
            seen["strategy"] = strategy
            self.calls += 1
            if self.calls == 2:
                raise MemoryError

        setattr(self, event, broken)


seen = {}


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("layer", ["logits", "trunk.1", "auto"])
@pytest.mark.parametrize("event", ["before_forward", "after_forward", "before_backward", "after_backward"])
def test_nothing_is_left_after_an_exception_either_and_training_goes_on(train_toy, event, layer, place):
    failing = Failing(event)
    plugin = NSRPlugin(layer=layer)
    plugins = [plugin, NVRMPlugin(0.02), EWCPlugin(1.0), failing]
    with pytest.raises(MemoryError):
        train_toy(plugins if place == "first" else plugins[::-1])
    strategy = seen["strategy"]
    assert hooks(strategy.model) == 0 and not plugin._responses
    assert not {"_around", "_train_exp", "training_epoch", "forward"} & set(vars(strategy))
    strategy.train(strategy.experience)
    assert failing.calls > 2 and hooks(strategy.model) == 0


def test_nothing_is_left_when_the_network_itself_breaks(train_toy):
    class Breaking(MLP):
        def forward(self, x, task=0):
            seen["model"] = self
            self.trunk(x)
            raise MemoryError

    with pytest.raises(MemoryError):
        train_toy([NSRPlugin(layer="heads.0")], model=Breaking(20, 4, width=8))
    assert hooks(seen["model"]) == 0


@pytest.mark.parametrize("place", ["first", "last"])
def test_another_plug_ins_own_passes_are_not_heard(train_toy, place):
    class Passes(SupervisedPlugin):
        def after_forward(self, strategy, **kwargs):
            strategy.model(10 * strategy.mb_x)

        before_backward = after_update = after_forward

    plugins = [NSRPlugin(layer="trunk.2"), Passes()]
    alone = bits(train_toy(plugins[:1], model=network())[1])
    beside = bits(train_toy(plugins if place == "first" else plugins[::-1], model=network())[1])
    assert equal(alone, beside)


@pytest.mark.parametrize("penalty_at", ["noisy", "clean"])
def test_the_responses_are_the_noisy_ones(train_toy, penalty_at):
    batches, plugin = Batches(), NSRPlugin(memory=1, layer="trunk.1")
    model = network()
    train_toy(
        [plugin, NVRMPlugin(0.3, penalty_at=penalty_at, seed=3), batches],
        model=model,
        optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.0),
        tasks=1,
    )
    x, y = batches.seen[0]
    clean = intra_class_variance(responses(model, "trunk.1", x), y) / 16
    with Perturbation(0.3, seed=3).around(list(model.parameters())):
        noisy = intra_class_variance(responses(model, "trunk.1", x), y) / 16
    assert batches.terms[0] == pytest.approx(noisy, rel=1e-3) and noisy > 1.5 * clean


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"lambda_": -1.0}, "lambda"),
        ({"lambda_": math.nan}, "lambda"),
        ({"memory": 0}, "memory must be at least 1"),
        ({"start": -1}, "start"),
    ],
)
def test_values_that_will_not_do_are_refused(arguments, says):
    with pytest.raises(UserError, match=says):
        NSRPlugin(**arguments)


def test_a_layer_that_is_not_there_or_not_in_use_is_named(train_toy):
    with pytest.raises(UserError, match="no layer 'trunk'; write logits, or one of network, "):
        train_toy([NSRPlugin(layer="trunk")], heads=True)
    with pytest.raises(UserError, match=r"'network.heads.1' takes no part"):
        train_toy([NSRPlugin(layer="network.heads.1")], heads=True)


@pytest.mark.parametrize("layer", ["trunk.2", "auto"])
def test_a_compiled_network_in_which_no_layer_is_heard_is_refused(train_toy, layer):
    model = network()
    model.compile()  # nothing is compiled before the first pass
    with pytest.raises(UserError, match=f"layer={layer} cannot be heard"):
        train_toy([NSRPlugin(layer=layer)], model=model)


def test_the_layer_is_measured_after_each_epoch_at_clean_weights(train_toy):
    plugins, batches = [NSRPlugin(), NVRMPlugin(0.3, seed=1)], Batches()
    _, model = train_toy([*plugins, batches], model=network(), tasks=1, epochs=3)
    by_epoch = plugins[0].diagnostics["by_epoch"]
    x, y = (torch.cat(part) for part in zip(*batches.seen[-4:], strict=True))  # the last epoch
    with torch.no_grad():
        logits = model(x).double()
    assert [len(values) for values in by_epoch.values()] == [3, 3]
    assert by_epoch["cross_entropy"][-1] == pytest.approx(float(cross_entropy(logits, y)), rel=1e-5)
    assert by_epoch["intra_class_variance"][-1] == pytest.approx(intra_class_variance(logits, y), rel=1e-5)
    assert by_epoch["intra_class_variance"][-1] == plugins[0].diagnostics["intra_class_variance/logits"]


def test_the_layer_is_measured_after_each_task_at_clean_weights(train_toy):
    plugin, batches = NSRPlugin(layer="trunk.2"), Batches()
    _, model = train_toy([plugin, NVRMPlugin(0.3, seed=1), batches], model=network())
    x, y = (torch.cat(part) for part in zip(*batches.seen[4:], strict=True))  # the second task
    r, _ = features(model, "trunk.2", [(x, y)])
    measured = plugin.diagnostics["intra_class_variance/trunk.2"]
    assert measured == pytest.approx(intra_class_variance(r, y), rel=1e-5)


def test_a_run_that_goes_on_ends_as_one_that_was_never_stopped(toy_spec, tmp_path):
    class Stop(Exception):
        pass

    def stop(history, share):
        raise Stop

    spec = toy_spec("nsr:layer=auto+jacobian+l1+nvrm")
    whole = run_one(spec, threads=1)
    with pytest.raises(Stop):
        run_one(spec, threads=1, checkpoint=tmp_path / "state", on_task=stop)
    rest = run_one(spec, threads=1, checkpoint=tmp_path / "state")
    assert rest.provenance["weights_sha256"] == whole.provenance["weights_sha256"]
    assert rest.diagnostics == whole.diagnostics and len(whole.diagnostics["nsr"]) == 3
    assert (tmp_path / "state").exists()


class Course(SupervisedPlugin):
    """Cross-entropy and variance of the logits within classes, after each epoch on the training data."""

    def __init__(self):
        super().__init__()
        self.losses, self.variances = [], []

    def after_training_epoch(self, strategy, **kwargs):
        data = [strategy.experience.dataset[i] for i in range(len(strategy.experience.dataset))]
        x, y = torch.stack([d[0] for d in data]), torch.tensor([d[1] for d in data])
        logits = strategy.model(x).detach()
        self.losses.append(float(cross_entropy(logits, y)))
        self.variances.append(intra_class_variance(logits, y))


@pytest.mark.parametrize("optimizer", [sgd, None])
def test_variance_within_classes_rises_as_the_loss_falls_unless_it_is_held(train_toy, optimizer):
    """Must show (3) and (6), on clusters: the cross-entropy ends higher with NSR, variance and index lower."""
    ends = []
    for strength in (0.0, 1.0, 7.4865):
        course, plugin = Course(), NSRPlugin(strength)
        train_toy([plugin, course], tasks=1, epochs=20, optimizer=optimizer, model=network())
        assert course.losses[-1] < course.losses[0]
        ends.append((course.losses[-1], course.variances[-1], plugin.diagnostics["davies_bouldin/logits"]))
        if not strength:
            assert course.variances[-1] > 2 * course.variances[0]
    losses, variances, indices = zip(*ends, strict=True)
    assert losses[0] < losses[1] < losses[2]
    assert variances[0] > 2 * variances[1] > 4 * variances[2]
    assert indices[0] > indices[1] > indices[2]


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_samples_that_are_misclassified_lie_further_from_their_class(train_toy, strength):
    """Mao et al. 2022: responses to the samples a network gets right vary less within each class."""
    benchmark = catalog.maker("benchmarks", "toy")(tasks=1, inputs=4, samples=1024, seed=3)
    _, model = train_toy([NSRPlugin(strength)], benchmark=benchmark, epochs=10)
    x, y, _ = next(iter(benchmark.test[0].batches(1024)))
    with torch.no_grad():
        logits = model(x).double()
    right = logits.argmax(1) == y
    assert 20 < int((~right).sum()) < 500
    assert intra_class_variance(logits[right], y[right]) < intra_class_variance(logits[~right], y[~right])


class InPlace(nn.Module):
    """What follows each layer works on its output."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.relu, self.out = nn.Linear(20, 16), nn.ReLU(inplace=True), nn.Linear(16, 4)

    def forward(self, x):
        return self.out(self.relu(self.hidden(x)))


@pytest.mark.parametrize("layer", ["hidden", "relu"])
def test_a_layer_is_heard_before_what_follows_works_in_place(train_toy, layer):
    model, batches = InPlace(), Batches()
    plugin = NSRPlugin(3.0, memory=1, layer=layer)
    train_toy([plugin, batches], model=model, optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.0), tasks=1)
    for (x, labels), term in zip(batches.seen, batches.terms, strict=True):
        r, y = model.hidden(x).detach().double(), labels.numpy()
        r = (r if layer == "hidden" else r.relu()).numpy()
        variance = sum((y == j).mean() * np.var(r[y == j], axis=0) for j in np.unique(y))
        assert term == pytest.approx(3.0 * variance.mean(), rel=1e-4, abs=1e-6)
