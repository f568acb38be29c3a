import pytest
import torch
from avalanche.training.plugins import EWCPlugin as AvalancheEWC
from torch import nn
from torch.nn.functional import cross_entropy, softmax

from cl_nvrm.errors import UserError
from cl_nvrm.models.mlp import MLP
from cl_nvrm.plugins.fisher import diagonal_fisher


def mlp():
    return MLP(6, 3, width=8)


def convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Dropout(), nn.Linear(64, 3)
    )


def in_place():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 3))


def twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.out = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.out(torch.tanh(self.inner(torch.tanh(self.inner(x)))))

    return Twice()


def tied():
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 3))
    model[2].weight = model[0].weight
    return model


NETWORKS = {
    "mlp": mlp,
    "one layer": lambda: nn.Linear(6, 3),
    "conv": convolutional,
    "in-place": in_place,
    "layer used twice": twice,
    "tied": tied,
}


def data(name, count=10):
    generator = torch.Generator().manual_seed(1)
    shape = (count, 1, 6, 6) if name == "conv" else (count, 6)
    return torch.randn(shape, generator=generator), torch.randint(3, (count,), generator=generator)


def batched(x, y, size):
    t = torch.zeros(len(x), dtype=torch.long)
    return [list(b) for b in zip(x.split(size), y.split(size), t.split(size), strict=True)]


def brute_force(model, x, y, kind):
    """One backward pass a sample and label: the definition."""
    model.eval()
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for i in range(len(x)):
        probabilities = softmax(model(x[i : i + 1]), 1)[0].detach()
        labels = {"exact": range(3), "predicted": [int(probabilities.argmax())]}.get(kind, [int(y[i])])
        for label in labels:
            loss = cross_entropy(model(x[i : i + 1]), torch.tensor([label]))
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            weight = float(probabilities[label]) if kind == "exact" else 1.0
            for (name, _), g in zip(model.named_parameters(), gradients, strict=True):
                total[name] += weight * g.square() / len(x)
    return total


@pytest.mark.parametrize("kind", ["exact", "empirical", "predicted"])
@pytest.mark.parametrize("name", NETWORKS)
def test_it_equals_one_backward_pass_a_sample(name, kind):
    torch.manual_seed(0)
    model = NETWORKS[name]()
    x, y = data(name)
    expected = brute_force(model, x, y, kind)
    model.train()
    for size in (1, 4, 10):
        fisher = diagonal_fisher(model, batched(x, y, size), kind)
        assert fisher.keys() == expected.keys()
        for key in expected:
            torch.testing.assert_close(fisher[key], expected[key], rtol=1e-4, atol=1e-8)
    assert model.training and all(p.grad is None for p in model.parameters())


def test_sampled_labels_come_to_the_exact_value_on_average():
    torch.manual_seed(0)
    model = mlp()
    x, y = data("mlp", 1)
    exact = diagonal_fisher(model, batched(x, y, 1), "exact")
    many = diagonal_fisher(model, batched(x.repeat(20_000, 1), y.repeat(20_000), 5000), "sampled")
    for key in exact:
        torch.testing.assert_close(many[key], exact[key], rtol=0.1, atol=1e-5)


def test_batch_is_avalanches_own_number():
    torch.manual_seed(0)
    model = mlp()
    x, y = data("mlp", 64)
    dataset = torch.utils.data.TensorDataset(x, y, torch.zeros(64, dtype=torch.long))
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    theirs = AvalancheEWC(1.0).compute_importances(model, nn.CrossEntropyLoss(), sgd, dataset, "cpu", 16)
    ours = diagonal_fisher(model, batched(x, y, 16), "batch")
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key].data, rtol=1e-4, atol=1e-9)


def test_the_batch_version_is_too_small_by_about_the_batch_size():
    torch.manual_seed(0)
    model = mlp()
    x, _ = data("mlp", 640)
    y = torch.distributions.Categorical(
        logits=model(x)
    ).sample()  # labels the model believes in: gradients average to 0
    total = {kind: sum(float(f.sum()) for f in diagonal_fisher(model, batched(x, y, 64), kind).values())
             for kind in ("empirical", "batch")}  # fmt: skip
    assert 64 / 2 < total["empirical"] / total["batch"] < 64 * 2


def test_frozen_parameters_are_left_out_and_other_heads_get_zero():
    torch.manual_seed(0)
    model = MLP(6, 3, width=8, heads=2)
    model.trunk[1].requires_grad_(False)
    x, y = data("mlp")
    fisher = diagonal_fisher(model, [[x, y, torch.ones(10, dtype=torch.long)]], multi_task=True)
    assert "trunk.1.weight" not in fisher
    assert float(fisher["heads.0.weight"].sum()) == 0 < float(fisher["heads.1.weight"].sum())


def test_a_batch_of_mixed_tasks_and_an_unknown_kind_are_refused():
    model = MLP(6, 3, width=8, heads=2)
    x, y = data("mlp")
    with pytest.raises(UserError, match="one task at a time"):
        diagonal_fisher(model, [[x, y, torch.arange(10) % 2]], multi_task=True)
    with pytest.raises(UserError, match="exact, sampled, empirical, predicted, batch"):
        diagonal_fisher(model, [], "guess")


@pytest.mark.parametrize("kind", ["exact", "sampled", "batch"])
@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_a_compiled_network_has_the_same_information(name, kind):
    torch.manual_seed(0)
    model, (x, y) = NETWORKS[name](), data(name)
    expected = diagonal_fisher(model, batched(x, y, 5), kind)
    model.compile(backend="eager")  # no C++, and hooks as silent
    model.eval()(x)
    found = diagonal_fisher(model, batched(x, y, 5), kind)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
