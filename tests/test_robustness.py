import copy
import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from cl_nvrm.analysis import noisy_evaluation, robustness
from cl_nvrm.analysis.robustness import Sharpness, Variability, expected_sharpness, neural_variability, perturbed
from cl_nvrm.errors import UserError
from cl_nvrm.noise import Laplace, Perturbation


def samples(n=70, inputs=12, classes=4):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, inputs, generator=generator), torch.randint(classes, (n,), generator=generator)


def batches(size=30):
    x, y = samples()
    return list(zip(x.split(size), y.split(size), strict=True))  # 30, 30, 10: uneven


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))


def normed():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4))
    model(samples()[0])  # running statistics of its own
    model[0].eval()  # and modes that differ
    return model


class Tied(nn.Module):
    """One weight matrix under two names, and a bias that is another Parameter on the same storage."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.out = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 4)
        self.second.weight = self.first.weight
        self.second.bias = nn.Parameter(self.first.bias.data)

    def forward(self, x):
        return self.out(self.second(self.first(x).tanh()).tanh())


class Branching(nn.Module):
    """Looks at its values: nothing that vmap can do."""

    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, x):
        outputs = self.net(x)
        return outputs if float(outputs.sum()) > 0 else 2 * outputs


class Hidden(nn.Module):
    """Reads its weights from where modules do not look: vmap runs, with clean weights."""

    def __init__(self):
        super().__init__()
        self.net = network()
        self.mine = [self.net[0].weight, self.net[2].weight]

    def forward(self, x):
        return (x @ self.mine[0].T).relu() @ self.mine[1].T


class Quadratic(nn.Module):
    """½ (θ + shift)ᵀ H (θ + shift), the same for every sample; θ = 0."""

    def __init__(self, hessian, shift=0.0):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(len(hessian), dtype=torch.float64))
        self.register_buffer("hessian", hessian)
        self.shift = shift

    def forward(self, x):
        theta = self.theta + self.shift
        return (0.5 * theta @ self.hessian @ theta).expand(len(x))


def its_value(outputs, labels):
    return outputs.mean()


def hessian(n=30):
    root = torch.randn(n, n, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return root @ root.T / n


@torch.no_grad()
def by_hand(model, x, y):
    outputs = model.eval()(x)
    return float((outputs.argmax(1) == y).double().mean()), float(cross_entropy(outputs, y))


def test_at_scale_zero_stands_the_clean_model_once():
    model = normed()
    (clean,) = perturbed(model, batches(), [0.0], draws=7)
    accuracy, loss = by_hand(model, *samples())
    assert clean.n == 1 and clean.scale == 0
    assert clean.accuracy == pytest.approx(accuracy, abs=1e-12) and clean.loss == pytest.approx(loss, rel=1e-6)
    assert clean.accuracy_interval == (clean.accuracy, clean.accuracy)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("noise", ["uniform", Laplace("matched")])
def test_each_draw_is_a_pass_under_perturbations_noise(noise, relative):
    model = normed()
    (found,) = perturbed(model, batches(), [0.3], draws=3, noise=noise, relative=relative, seed=5)
    perturbation = Perturbation(0.3, noise, relative=relative, seed=5)
    for accuracy, loss in zip(found.accuracies, found.losses, strict=True):
        with perturbation.around(model.parameters()):
            expected = by_hand(model, *samples())
        assert (accuracy, loss) == pytest.approx(expected, rel=1e-5)


def test_uneven_batches_count_by_their_samples():
    model = network()
    (whole,) = perturbed(model, batches(70), [0.2], draws=4)
    (parts,) = perturbed(model, batches(32), [0.2], draws=4)
    assert whole.losses == pytest.approx(parts.losses, rel=1e-6)
    assert whole.accuracies == pytest.approx(parts.accuracies, abs=1e-12)


def test_more_draws_keep_the_first_ones_and_so_do_more_scales():
    model = network()
    (few,) = perturbed(model, batches(), [0.2], draws=3)
    zero, more, wide = perturbed(model, batches(), [0.0, 0.2, 0.4], draws=6)
    assert more.losses[:3] == few.losses and more.accuracies[:3] == few.accuracies
    assert (zero.n, more.n, wide.n) == (1, 6, 6) and len(set(more.losses)) == 6
    (other,) = perturbed(model, batches(), [0.2], draws=3, seed=1)
    assert not set(other.losses) & set(few.losses)


def test_every_scale_has_the_same_draws():
    model = Quadratic(hessian())  # no linear term: the increase goes with the square of the scale, draw by draw
    small, large = (expected_sharpness(model, batches(), b, draws=5, loss=its_value) for b in (0.1, 0.3))
    assert large.increases == pytest.approx([9 * value for value in small.increases], rel=1e-9)


@pytest.mark.parametrize("at_once", [2, 4, 10])
@pytest.mark.parametrize("make", [network, normed, Tied])
@pytest.mark.parametrize("relative", [False, True])
def test_draws_side_by_side_are_those_one_by_one(make, at_once, relative, monkeypatch):
    calls, side_by_side = [], noisy_evaluation._side_by_side
    monkeypatch.setattr(noisy_evaluation, "_side_by_side", lambda *a: calls.append(1) or side_by_side(*a))
    model = make()
    alone = perturbed(model, batches(), [0.0, 0.2], draws=5, relative=relative)
    assert not calls
    together = perturbed(model, batches(), [0.0, 0.2], draws=5, relative=relative, at_once=at_once)
    assert len(calls) > 3  # the trial batch, and passes of three batches
    for one, many in zip(alone, together, strict=True):
        assert one.losses == pytest.approx(many.losses, abs=1e-5)
        assert one.accuracies == pytest.approx(many.accuracies, abs=1e-12)


@pytest.mark.parametrize("make", [Branching, Hidden])
def test_models_that_cannot_be_batched_are_evaluated_one_by_one(make):
    model = make()
    assert perturbed(model, batches(), [0.2], draws=3, at_once=3) == perturbed(model, batches(), [0.2], draws=3)


def test_models_of_all_kinds_can_be_asked_for_draws_side_by_side():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.cell, self.out = nn.LSTM(3, 8, batch_first=True), nn.Linear(8, 4)

        def forward(self, x):
            return self.out(self.cell(x.view(-1, 4, 3))[0][:, -1])

    class Attentive(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer, self.out = nn.TransformerEncoderLayer(3, 1, 8, batch_first=True), nn.Linear(3, 4)

        def forward(self, x):
            return self.out(self.layer(x.view(-1, 4, 3))[:, -1])

    torch.manual_seed(0)
    convolutional = nn.Sequential(
        nn.Unflatten(1, (1, 3, 4)), nn.Conv2d(1, 5, 2), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(30, 4)
    )
    for model in (Recurrent(), Attentive(), convolutional):
        (alone,), (together,) = (perturbed(model, batches(), [0.2], draws=3, at_once=k) for k in (1, 3))
        assert alone.losses == pytest.approx(together.losses, abs=1e-5)


class Failing:
    """A loader that moves every global random state, and may fail in the second batch."""

    def __init__(self, fails):
        self.fails = fails

    def __iter__(self):
        for k, batch in enumerate(batches()):
            torch.rand(3), random.random(), np.random.rand()
            if self.fails and k == 1:
                raise KeyError
            yield batch


class Counting(nn.Module):
    """Writes into a buffer and replaces another one even in eval mode."""

    def __init__(self):
        super().__init__()
        self.net = normed()
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("last", torch.zeros(()))

    def forward(self, x):
        outputs = self.net(x)
        self.seen += 1
        self.last = outputs.detach().sum()
        return outputs


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("make", [normed, Tied, Counting])
def test_model_modes_and_random_states_stay_as_they_were(make, at_once, fails):
    model = make().train()
    if make is normed:
        model[1].eval()
    cross_entropy(model(samples()[0]), samples()[1]).backward()
    before = copy.deepcopy(dict(model.state_dict()))
    tensors = {name: id(t) for name, t in (*model.named_parameters(), *model.named_buffers())}
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    modes = [m.training for m in model.modules()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()

    def run():
        perturbed(model, Failing(fails), [0.0, 0.2], draws=3, at_once=at_once)
        neural_variability(model, Failing(fails), 0.2, draws=2, at_once=at_once)
        robustness.generalisation_gap(model, Failing(fails), batches())

    if fails:
        with pytest.raises(KeyError):
            run()
        with pytest.raises(KeyError):
            perturbed(model, Failing(True), [0.2], draws=3, at_once=at_once)
    else:
        run()
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert {name: id(t) for name, t in (*model.named_parameters(), *model.named_buffers())} == tensors
    assert all(map(torch.equal, gradients, (p.grad for p in model.parameters() if p.grad is not None)))
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]


def test_a_loader_that_shuffles_and_drops_yields_the_same_samples_to_all_draws():
    loader = DataLoader(TensorDataset(*samples()), batch_size=32, shuffle=True, drop_last=True)
    model = network()
    first = perturbed(model, loader, [0.0, 1e-9], draws=3)
    assert len(set(first[1].accuracies)) == 1 and first[0].loss == pytest.approx(first[1].loss, rel=1e-6)
    torch.manual_seed(99)
    assert perturbed(model, loader, [0.0, 1e-9], draws=3) == first
    assert perturbed(model, loader, [0.0], seed=1) != first[:1]


@pytest.mark.parametrize("draw", [random.random, np.random.rand, lambda: float(torch.rand(()))])
def test_a_loader_that_augments_yields_the_same_images_to_all_draws(draw):
    class Augmenting:
        def __iter__(self):
            return ((x + draw(), y) for x, y in batches())

    found = perturbed(network(), Augmenting(), [1e-9], draws=3)
    assert found[0].losses == pytest.approx([found[0].loss] * 3, rel=1e-6)
    draw()
    assert perturbed(network(), Augmenting(), [1e-9], draws=3) == found


def test_frozen_weights_have_no_noise_and_a_frozen_model_is_an_error():
    model = network()
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    for at_once in (1, 2):
        (found,) = perturbed(model, batches(), [0.2], draws=2, at_once=at_once)
        with Perturbation(0.2).around(model[2].parameters()):
            assert found.losses[0] == pytest.approx(perturbed(model, batches(), [0.0])[0].loss, rel=1e-6)
    model.requires_grad_(False)
    with pytest.raises(UserError, match="no trainable weights"):
        perturbed(model, batches(), [0.0, 0.2])


def test_what_cannot_be_answered_is_refused():
    model = network()
    for scale in (-0.1, math.nan):
        with pytest.raises(UserError, match="at least 0"):
            perturbed(model, batches(), [scale])
    with pytest.raises(UserError, match="draws and at_once"):
        perturbed(model, batches(), [0.1], draws=0)
    with pytest.raises(UserError, match="more than once"):
        perturbed(model, iter(batches()), [0.0, 0.1])
    with pytest.raises(UserError, match="mean over the samples"):
        perturbed(model, batches(), [0.1], loss=lambda out, y: cross_entropy(out, y, reduction="none"))


def test_a_loss_that_is_not_finite_has_no_interval():
    model = nn.Linear(12, 4)
    (found,) = perturbed(model, batches(), [1e38], draws=3, loss=lambda out, y: out.exp().sum(1).mean())
    assert not math.isfinite(found.loss) and all(map(math.isnan, found.loss_interval))
    sharpness = expected_sharpness(model, batches(), 1e38, draws=3, loss=lambda out, y: out.exp().sum(1).mean())
    assert math.isnan(sharpness.standard_error) and all(map(math.isnan, sharpness.interval))


@pytest.mark.parametrize("at_once", [1, 50])
def test_on_a_quadratic_delta_is_half_the_variance_times_the_trace(at_once):
    """SPEC 1.6: E ½ξᵀHξ = ½ b² tr H, whatever θ is; its spread b² ‖H‖ / √2 at the minimum."""
    h, b, draws = hessian(), 0.1, 400
    expected = 0.5 * b**2 * float(h.trace())
    for shift in (0.0, 0.3):
        model = Quadratic(h, shift)
        found = neural_variability(model, batches(), b, draws=draws, loss=its_value, at_once=at_once)
        assert found.delta == pytest.approx(expected, abs=4 * found.standard_error)
        assert found.interval[0] < found.delta < found.interval[1] and found.b == b
        if not shift:
            spread = b**2 * float(h.square().sum().sqrt()) / math.sqrt(2)
            assert found.standard_error == pytest.approx(spread / math.sqrt(draws), rel=0.15)
    uniform = expected_sharpness(Quadratic(h), batches(), b, draws=draws, noise="uniform", loss=its_value)
    assert uniform.mean == pytest.approx(expected / 3, abs=4 * uniform.standard_error)


def test_sharpness_is_signed_and_delta_is_not():
    model = Quadratic(-hessian())
    sharpness = expected_sharpness(model, batches(), 0.1, loss=its_value)
    found = neural_variability(model, batches(), 0.1, loss=its_value)
    assert sharpness.mean < 0 < found.delta == -sharpness.mean and found.sharpness == sharpness
    assert found.interval == pytest.approx([-end for end in sharpness.interval[::-1]])
    assert sharpness.samples == 70 and sharpness.clean == 0
    around_zero = Variability(Sharpness(0.1, 1.0, (0.9, 1.2, 0.8, 1.15), 5))
    low, high = around_zero.sharpness.interval
    assert low < 0 < high and around_zero.interval == (0.0, max(-low, high))


@pytest.mark.slow
def test_the_intervals_cover_the_true_increase_as_often_as_they_say():
    model = Quadratic(hessian(), shift=0.3)
    truth = 0.5 * 0.1**2 * float(model.hessian.trace())
    one = [batches()[0]]
    covered = absolute = 0
    for seed in range(400):
        found = neural_variability(model, one, 0.1, draws=8, seed=seed, loss=its_value)
        covered += found.sharpness.interval[0] <= truth <= found.sharpness.interval[1]
        absolute += found.interval[0] <= truth <= found.interval[1]
    assert 0.92 <= covered / 400 <= 0.98 and absolute >= covered


def test_more_noise_costs_a_trained_model_accuracy():
    x, _ = samples()
    y = x[:, :4].argmax(1)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    clean, little, much = perturbed(model, [(x, y)], [0.0, 0.05, 2.0], draws=20)
    assert clean.accuracy == 1 and little.accuracy > 0.95 > 0.6 > much.accuracy_interval[1]
    assert clean.loss < little.loss < much.loss_interval[0]
    held_out = torch.randn(300, 12, generator=torch.Generator().manual_seed(3))
    test = [(held_out, held_out[:, :4].argmax(1))]
    gap = robustness.generalisation_gap(model, [(x, y)], test)
    assert gap == pytest.approx(1 - by_hand(model, *test[0])[0]) and 0 < gap < 1
