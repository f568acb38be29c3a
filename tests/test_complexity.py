"""Variance within classes and the Davies-Bouldin index, against numpy and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import davies_bouldin_score
from torch import nn

from cl_nvrm.analysis.complexity import davies_bouldin, features, intra_class_variance
from cl_nvrm.errors import UserError
from cl_nvrm.models.mlp import MLP

SHAPES = [(30, 5, 2), (200, 40, 10), (64, 1, 3)]


def clusters(samples, units, classes, seed=0):
    """Classes of unequal size, labels out of order and with gaps."""
    draws = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (samples,), generator=draws) * 3 + 1
    y[:classes] = torch.arange(classes) * 3 + 1
    return torch.randn(samples, units, generator=draws) * (1 + y[:, None]) + y[:, None].sqrt(), y


def batches(size=30):
    x, y = clusters(70, 12, 4)
    return list(zip(x.split(size), y.split(size), strict=True))  # 30, 30, 10: uneven


@pytest.mark.parametrize("shape", SHAPES)
def test_the_variance_is_numpys_weighted_by_the_share_of_each_class(shape):
    x, y = clusters(*shape)
    expected = sum(float((y == j).double().mean()) * np.var(x[y == j].double().numpy(), axis=0) for j in y.unique())
    assert intra_class_variance(x, y) == pytest.approx(float(np.sum(expected)), rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_index_is_scikit_learns(shape, seed):
    x, y = clusters(*shape, seed)
    expected = davies_bouldin_score(x.double().numpy(), y.numpy())
    assert davies_bouldin(x, y) == pytest.approx(expected, rel=1e-9)


def test_the_index_is_scikit_learns_also_where_it_is_degenerate():
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    points = torch.tensor([0.0, 0.0, 1.0, 1.0, 5.0, 5.0])[:, None]
    around = torch.tensor([-1.0, 1.0, -2.0, 2.0, -3.0, 3.0])[:, None]
    two_in_one_place = torch.tensor([-1.0, 1.0, -2.0, 2.0, 4.0, 5.0])[:, None]
    for x in (points, around, two_in_one_place):
        assert davies_bouldin(x, y) == pytest.approx(davies_bouldin_score(x.numpy(), y.numpy()), rel=1e-6)
    assert davies_bouldin(points, y) == davies_bouldin(around, y) == 0
    assert davies_bouldin(two_in_one_place, y) > 0


def test_neither_knows_where_the_origin_is_and_only_the_variance_what_the_unit_is():
    x, y = clusters(100, 6, 4)
    assert intra_class_variance(3 * x + 100, y) == pytest.approx(9 * intra_class_variance(x, y), rel=1e-4)
    assert davies_bouldin(3 * x + 100, y) == pytest.approx(davies_bouldin(x, y), rel=1e-4)


def test_large_features_close_together_keep_their_digits():
    x, y = clusters(100, 6, 4)
    expected = intra_class_variance(x.double(), y)
    assert intra_class_variance(x.double() + 1e6, y) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("labels", [torch.zeros(5).long(), torch.arange(5)])
def test_an_index_of_one_class_or_of_single_samples_is_refused(labels):
    with pytest.raises(UserError, match="two classes and more samples"):
        davies_bouldin(torch.randn(5, 2), labels)


def test_a_label_for_each_sample_is_asked_for():
    with pytest.raises(UserError, match="a label for each sample, got 5 and 4"):
        intra_class_variance(torch.randn(5, 2), torch.zeros(4).long())


class Twice(nn.Module):
    """Goes through one layer twice; its feature maps have two dimensions."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.out = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1), nn.Linear(12, 4)

    def forward(self, x):
        x = self.norm(self.conv(x.view(-1, 1, 3, 4)))
        return self.out(self.conv(x).flatten(1))


def test_features_are_the_layers_own_first_and_flat_and_the_model_stays_as_it_was():
    model = Twice()
    model.norm.train(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    x, y = clusters(70, 12, 4)
    conv, labels = features(model, "conv", batches())
    torch.testing.assert_close(conv, model.conv(x.view(-1, 1, 3, 4)).detach().flatten(1))
    assert torch.equal(labels, y) and not conv.requires_grad
    logits, _ = features(model, "logits", batches())
    assert [m.training for m in model.modules()] == modes
    model.eval()
    torch.testing.assert_close(logits, model(x).detach())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


def test_modes_and_hooks_come_back_also_after_an_exception():
    model = Twice()
    with pytest.raises(RuntimeError):
        features(model, "conv", [(torch.randn(2, 5), torch.zeros(2).long())])
    assert all(m.training for m in model.modules()) and not any(m._forward_hooks for m in model.modules())


def test_how_the_model_sees_a_batch_may_be_said():
    model = MLP(12, 4, width=8, heads=2)
    second, _ = features(model, "logits", batches(), forward=lambda batch: model(batch[0], 1))
    torch.testing.assert_close(second, model(clusters(70, 12, 4)[0], 1).detach())


@pytest.mark.parametrize(
    ("layer", "says"),
    [("trunk.7", "no layer 'trunk.7'; write logits, or one of trunk, trunk.0"), ("heads.1", "takes no part")],
)
def test_a_layer_that_cannot_be_heard_is_named(layer, says):
    with pytest.raises(UserError, match=says):
        features(MLP(12, 4, width=8, heads=2), layer, batches())


def test_a_layer_without_a_row_for_each_sample_is_refused():
    class Split(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(6, 2)

        def forward(self, x):
            return self.out(x.view(-1, 6)).view(-1, 4)

    with pytest.raises(UserError, match=r"'out' gives \(60, 2\) for 30 samples"):
        features(Split(), "out", batches())


def test_a_loader_that_is_used_up_is_refused():
    with pytest.raises(UserError, match="no samples"):
        features(MLP(12, 4), "logits", iter([]))


class InPlace(nn.Module):
    """What follows each layer works on its output."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.relu, self.out = nn.Linear(12, 5), nn.ReLU(inplace=True), nn.Linear(5, 4)

    def forward(self, x):
        return self.out(self.relu(self.hidden(x)).add_(1.0))


def test_a_layer_is_heard_before_what_follows_works_in_place():
    model, (x, _) = InPlace(), clusters(70, 12, 4)
    torch.testing.assert_close(features(model, "hidden", batches())[0], model.hidden(x).detach())
    torch.testing.assert_close(features(model, "relu", batches())[0], model.hidden(x).detach().relu())
