"""Gradients of single samples are those of one backward pass a sample, however a network uses its weights."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, dropout, linear, normalize
from torch.nn.utils import parametrizations, prune

from cl_nvrm.analysis import ways
from cl_nvrm.analysis.implicit_regulariser import implicit_regulariser
from cl_nvrm.plugins import per_sample
from cl_nvrm.plugins.fisher import diagonal_fisher
from cl_nvrm.plugins.mas import output_sensitivity

SAMPLES = 12


def mlp(change=lambda model: None):
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the old weight_norm
        change(model)
    return model


class Layers(nn.Module):
    """Two linear layers, ``first`` and ``last``, used as a function says."""

    def __init__(self, use, last=(8, 3)):
        super().__init__()
        self.first, self.last, self.use = nn.Linear(6, 8), nn.Linear(*last), use

    def forward(self, x):
        return self.use(self, x)


class Bare(nn.Module):
    """Parameters of its own, beside layers in a plain list that are registered as parameters alone."""

    def __init__(self):
        super().__init__()
        self.hidden = [nn.Linear(6, 8)]
        self.kept = nn.ParameterList(self.hidden[0].parameters())
        self.scale, self.last = nn.Parameter(torch.randn(8)), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.hidden[0](x) * self.scale))


class Closure(nn.Module):
    """Holds on to a weight that it does not ask its layer for."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        weight = self.first.weight
        self.again = lambda x: x @ weight.T

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)) + self.again(x))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.recurrent, self.last = kind(2, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.recurrent(x.view(-1, 3, 2))[0][:, -1])


class Words(nn.Module):
    def __init__(self, sparse):
        super().__init__()
        self.words, self.last = nn.Embedding(5, 4, sparse=sparse), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.words((2 * x.abs()).long().clamp(max=4)).mean(1))


def parted(self, x):
    return self.last(torch.tanh(self.first(x)) if x.sum() > 0 else self.first(x))


def chosen(self, x):
    """Some rows only go through the layer a second time."""
    h = self.first(x)
    again = x[:, 0] > 0
    h[again] = h[again] + self.first(x[again])
    return self.last(torch.tanh(h))


def changed_output(model):
    model[0].register_forward_hook(lambda module, inputs, output: 3 * output)


def weight_norm(model):
    nn.utils.weight_norm(model[0])


def spectral_norm(model):
    nn.utils.spectral_norm(model[0])
    model(torch.randn(4, 6))


KINDS = {
    "pruned": lambda: mlp(lambda model: prune.l1_unstructured(model[0], "weight", 0.3)),
    "old weight norm": lambda: mlp(weight_norm),
    "old spectral norm": lambda: mlp(spectral_norm),
    "weight norm": lambda: mlp(lambda model: parametrizations.weight_norm(model[0])),
    "spectral norm": lambda: mlp(lambda model: parametrizations.spectral_norm(model[0])),
    "a hook on an output": lambda: mlp(changed_output),
    "a hook on an input": lambda: mlp(lambda m: m[2].register_forward_pre_hook(lambda layer, inputs: inputs[0] ** 2)),
    "cosine head": lambda: Layers(lambda m, x: linear(normalize(m.first(x)), normalize(m.last.weight)) + m.last.bias),
    "past a layer": lambda: Layers(lambda m, x: linear(torch.tanh(linear(x, m.first.weight)), m.last.weight)),
    "and past it": lambda: Layers(lambda m, x: m.last(torch.tanh(m.first(x)) + linear(x, m.first.weight))),
    "twice": lambda: Layers(lambda m, x: m.first(m.last(torch.tanh(m.first(x)))), last=(8, 6)),
    "two rows a sample": lambda: nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Linear(3, 4), nn.Tanh(), nn.Flatten()),
    "rows of samples": lambda: Layers(
        lambda m, x: m.last(m.first(x.repeat(1, 2).view(-1, 6)).view(len(x), 16)), (16, 3)
    ),
    "samples in reverse": lambda: Layers(lambda m, x: m.last(torch.tanh(m.first(x.flip(0)).flip(0)))),
    "parameters of its own": Bare,
    "a closure": Closure,
    "a branch": lambda: Layers(parted),
    "rows that are chosen": lambda: Layers(chosen),
    "GRU": lambda: Recurrent(nn.GRU),
    "RNN": lambda: Recurrent(nn.RNN),
    "LSTM": lambda: Recurrent(nn.LSTM),
    "embedding": lambda: Words(sparse=False),
    "sparse embedding": lambda: Words(sparse=True),
    "a last layer of zeros": lambda: mlp(lambda model: [nn.init.zeros_(p) for p in model[2].parameters()]),
    "frozen": lambda: mlp(lambda model: model[0].weight.requires_grad_(False)),
    "frozen but for a norm": lambda: mlp(lambda m: [weight_norm(m), m[2].requires_grad_(False)]),
}
SLOW = {"parameters of its own", "a closure", "a branch", "rows that are chosen", "GRU", "RNN", "sparse embedding"}
SLOWER = {*SLOW, "LSTM"}  # of all outputs


@pytest.fixture(autouse=True)
def _told_anew():
    ways._tell_once.cache_clear()


def network(kind):
    torch.manual_seed(0)
    return KINDS[kind]()


def samples(count=SAMPLES):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 6, generator=generator), torch.randint(3, (count,), generator=generator)


def batched(x, y, size=SAMPLES):
    return [
        [*pair, torch.zeros(len(pair[0]), dtype=torch.long)] for pair in zip(x.split(size), y.split(size), strict=True)
    ]


def by_hand(model, x, size, scores):
    """The mean over samples of Σ weight · size(∂ score), by one backward pass each."""
    model.eval()
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters() if p.requires_grad}
    for n in range(len(x)):
        outputs = model(x[n : n + 1])
        for score, weight in scores(outputs, n):
            model.zero_grad()
            score.backward(retain_graph=True)
            for name, sizes in total.items():
                grad = model.get_parameter(name).grad
                sizes += 0 if grad is None else weight * size(grad.to_dense()) / len(x)
    model.zero_grad()
    return total


def expectation(outputs, n):
    return [(cross_entropy(outputs, torch.tensor([c])), float(p)) for c, p in enumerate(outputs.detach().softmax(1)[0])]


def same(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_importances_of_every_kind_of_network_are_those_of_a_loop_over_samples(kind):
    model, (x, y) = network(kind), samples()
    model.train()
    for size in (SAMPLES, 5):
        same(diagonal_fisher(model, batched(x, y, size)), by_hand(model, x, torch.square, expectation))
        same(
            diagonal_fisher(model, batched(x, y, size), "empirical"),
            by_hand(model, x, torch.square, lambda out, n: [(cross_entropy(out, y[n : n + 1]), 1.0)]),
        )
        same(
            output_sensitivity(model, batched(x, y, size)),
            by_hand(model, x, torch.abs, lambda out, n: [(out.square().sum(), 1.0)]),
        )


@pytest.mark.parametrize("kind", KINDS)
def test_the_implicit_regulariser_of_every_kind_of_network_is_that_of_a_loop_over_samples(kind):
    model, (x, _) = network(kind), samples()
    expected = by_hand(model, x, torch.square, lambda outputs, n: [(one, 1.0) for one in outputs.flatten()])
    assert implicit_regulariser(model, x) == pytest.approx(sum(float(t.sum()) for t in expected.values()), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_user_is_told_where_samples_are_taken_one_by_one_and_nowhere_else(kind, capsys):
    model, (x, y) = network(kind), samples()
    for slow, asked in (
        (SLOW, lambda: output_sensitivity(model, batched(x, y))),
        (SLOWER, lambda: implicit_regulariser(model, x)),
    ):
        ways._tell_once.cache_clear()
        asked()
        asked()
        assert capsys.readouterr().err.count("one sample at a time, which is slow") == (kind in slow)


def test_plain_layers_are_not_taken_one_by_one_in_any_batch(monkeypatch):
    taken = []
    alone = per_sample.one_by_one
    monkeypatch.setattr(per_sample, "one_by_one", lambda *given: (taken.append(len(given[1][0])), alone(*given)))
    monkeypatch.setattr(per_sample, "of_any_layers", None)
    x, y = samples(100)
    output_sensitivity(mlp(), batched(x, y, 20))
    assert taken == [ways.FEW]  # once, to compare with


@pytest.mark.parametrize("kind", ["pruned", "old weight norm", "old spectral norm", "GRU"])
def test_the_network_is_left_as_it_was(kind):
    model, (x, y) = network(kind).train(), samples()
    model(x)
    before = {id(m): dict(vars(m)) for m in model.modules()}
    kept, state = {n: t.clone() for n, t in model.state_dict().items()}, torch.get_rng_state()
    output_sensitivity(model, batched(x, y))
    implicit_regulariser(model, x)
    assert all(vars(m).keys() == before[id(m)].keys() for m in model.modules())
    assert all(
        value is before[id(m)][name]
        for m in model.modules()
        for name, value in vars(m).items()
        if torch.is_tensor(value)
    )
    assert all(torch.equal(t, kept[n]) for n, t in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state()) and all(p.grad is None for p in model.parameters())


def test_random_numbers_drawn_in_each_pass_are_no_reason_to_go_slowly(capsys):
    torch.manual_seed(0)
    model, (x, y) = Layers(lambda m, x: m.last(dropout(m.first(x), 0.5))), samples(400)
    found = output_sensitivity(model, batched(x, y, 400))
    expected = by_hand(model, x, torch.abs, lambda out, n: [(out.square().sum(), 1.0)])
    torch.testing.assert_close(found["last.bias"], expected["last.bias"], rtol=0.2, atol=0)  # of other draws
    assert capsys.readouterr().err == ""


def test_of_a_network_that_takes_no_single_sample_the_user_is_told(capsys):
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, affine=False, track_running_stats=False), nn.Linear(8, 3))
    found = output_sensitivity(model, batched(*samples()))
    assert "takes no single sample, so its gradients are unchecked" in capsys.readouterr().err
    assert all(bool(f.any()) for f in found.values())


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_rounding_is_no_reason_to_go_slowly(dtype, scale, capsys):
    torch.manual_seed(0)
    layers = [layer for _ in range(4) for layer in (nn.Linear(64, 64), nn.ReLU())]
    model, x = nn.Sequential(*layers, nn.Linear(64, 10)).to(dtype), scale * torch.randn(64, 64, dtype=dtype)
    y = torch.arange(64) % 10
    found = output_sensitivity(model, batched(x, y, 64))
    assert capsys.readouterr().err == "" and all(bool(f.any()) for f in found.values())
