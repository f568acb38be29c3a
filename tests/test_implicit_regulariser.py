"""What label noise does to weights that fit: the six things that Blanc et al. (2020) say, and what must not do them."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.func import jacrev

from cl_nvrm.analysis.implicit_regulariser import implicit_regulariser
from cl_nvrm.benchmark import TaskAware
from cl_nvrm.errors import UserError
from cl_nvrm.models.mlp import MLP
from cl_nvrm.models.small_cnn import model as small_cnn
from cl_nvrm.study.implicit import training
from cl_nvrm.study.implicit.regressions import MatrixSensing, Product, SparseSquares
from cl_nvrm.study.implicit.training import Training, fitted, stepped, train
from cl_nvrm.study.implicit.two_layers import OnePoint, ReLULine
from cl_nvrm.study.studies import IMPLICIT

PROBLEMS = {
    "product": Product(trials=2),
    "matrix-sensing": MatrixSensing(d=4, measurements=6, trials=2),
    "sparse-squares": SparseSquares(d=9, ones=2, points=4, trials=2),
    "relu-line": ReLULine(trials=2),
    "tanh": OnePoint(trials=2),
    "sigmoid": OnePoint(activation="sigmoid", trials=2),
}
each_problem = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)


def mean(values):
    return float(values.double().mean())


# The regulariser of any network


def by_hand(model, x, *more):
    """One sample and one output at a time."""
    weights = [p for p in model.parameters() if p.requires_grad]
    model.eval()
    total = 0.0
    for one in x:
        for output in model(one[None], *more).flatten():
            found = torch.autograd.grad(output, weights, retain_graph=True, allow_unused=True)
            total += sum(float(g.double().square().sum()) for g in found if g is not None)
    return total / len(x)


def tied():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(6, 6)
            self.second = nn.Linear(6, 6)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(torch.tanh(self.first(x)))

    return Tied()


def partly_frozen():
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3))
    model(torch.randn(32, 6))
    model[0].requires_grad_(False)
    return model


class Functional(nn.Module):
    """Uses its layer past the layer, once more (``both``) or only so; and a second layer on two rows a sample."""

    def __init__(self, both):
        super().__init__()
        self.layer, self.bridge, self.both = nn.Linear(6, 6), nn.Linear(3, 3), both

    def forward(self, x):
        ahead = self.layer(x) if self.both else x
        pairs = self.bridge(torch.tanh(nn.functional.linear(ahead, self.layer.weight)).view(-1, 3))
        return pairs.view(len(x), 6)


def convolutions():
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)),
        nn.Conv2d(1, 5, 2, padding=2, dilation=(1, 2), bias=False),
        nn.ReLU(inplace=True),
        nn.Conv2d(5, 4, (3, 2), stride=(1, 2), padding=1),
        nn.BatchNorm2d(4).requires_grad_(False),
        nn.Tanh(),
        nn.Flatten(),
        nn.LazyLinear(3),
    )


def convolutions_of_other_kinds():
    layers = [nn.Conv2d(2, 4, 2, groups=2), nn.Conv2d(4, 2, 3, padding=1, padding_mode="circular")]
    return nn.Sequential(nn.Unflatten(1, (2, 1, 3)), nn.ZeroPad2d(2), *layers, nn.Conv2d(2, 2, 3, padding="same"))


KINDS = {
    "one output": lambda: nn.Linear(6, 1),
    "mlp": lambda: MLP(6, 3, width=8),
    "tied": tied,
    "frozen": partly_frozen,
    "normalised": lambda: partly_frozen().requires_grad_(True),
    "convolutions": convolutions,
    "other convolutions": convolutions_of_other_kinds,
    "past the layer": lambda: Functional(False),
    "layer and past it": lambda: Functional(True),
    "sequences": lambda: nn.Sequential(nn.Unflatten(1, (3, 2)), nn.Linear(2, 2), nn.Tanh(), nn.Flatten()),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("at_once", [1 << 24, 1])
def test_the_regulariser_is_that_of_a_loop_over_samples_and_outputs(monkeypatch, make, at_once):
    monkeypatch.setattr("cl_nvrm.analysis.implicit_regulariser.NUMBERS", at_once)
    monkeypatch.setattr("cl_nvrm.analysis.implicit_regulariser.AT_ONCE", min(at_once, 4))
    torch.manual_seed(0)
    model, x = make(), torch.randn(7, 6)
    with torch.no_grad():
        model(x)
    model.train()
    found = implicit_regulariser(model, x)
    assert model.training and all(p.grad is None for p in model.parameters())
    assert found == pytest.approx(by_hand(model, x), rel=1e-5)


@pytest.mark.parametrize("part", ["weight", "bias"])
@pytest.mark.parametrize("layer", [1, 3, 7])
def test_a_frozen_part_of_a_layer_is_left_out(layer, part):
    torch.manual_seed(0)
    model, x = convolutions(), torch.randn(7, 6)
    model(x)
    whole = by_hand(model, x)
    for name, p in model[layer].named_parameters():
        p.requires_grad_(name != part)
    assert implicit_regulariser(model, x) == pytest.approx(found := by_hand(model, x), rel=1e-5)
    assert found < whole or (layer, part) == (1, "bias")


@pytest.mark.parametrize(
    ("make", "shape"),
    [(lambda: MLP(784, 10, width=512), (784,)), (lambda: small_cnn((3, 32, 32), 10), (3, 32, 32))],
    ids=["mlp", "small-cnn"],
)
def test_networks_of_plain_layers_take_one_backward_pass_an_output_and_no_gradients_of_samples(
    monkeypatch, make, shape
):
    torch.manual_seed(0)
    model, x = make(), torch.randn(3, *shape)
    expected = by_hand(model, x)
    assert implicit_regulariser(model, x) == pytest.approx(expected, rel=1e-5)
    with monkeypatch.context() as patch:
        patch.setattr("cl_nvrm.analysis.implicit_regulariser._by_gradients", None)
        assert implicit_regulariser(model, x) == pytest.approx(expected, rel=1e-5)
    monkeypatch.setattr("cl_nvrm.analysis.implicit_regulariser._by_products", lambda *_: None)
    assert implicit_regulariser(model, x) == pytest.approx(expected, rel=1e-5)


def test_it_takes_a_task_label_and_leaves_the_other_heads_out():
    torch.manual_seed(0)
    model, x = TaskAware(MLP(6, 3, width=8, heads=2)), torch.randn(5, 6)
    for task in (0, 1):
        assert implicit_regulariser(model, x, task) == pytest.approx(by_hand(model, x, task), rel=1e-5)


def test_of_a_linear_model_it_is_the_size_of_its_inputs():
    x = torch.randn(9, 6, dtype=torch.double)
    model = nn.Linear(6, 4).double()
    assert implicit_regulariser(model, x) == pytest.approx(4 * (float(x.square().sum()) / 9 + 1), rel=1e-12)


def test_without_samples_there_is_no_mean():
    with pytest.raises(UserError, match="there are none"):
        implicit_regulariser(nn.Linear(6, 1), torch.empty(0, 6))


# The problems


@each_problem
def test_written_out_gradients_and_regularisers_are_those_of_autograd(problem):
    torch.manual_seed(0)
    theta = problem.start() + 0.1 * torch.randn(problem.start().shape, dtype=torch.double)
    outputs, pull = problem.linearised(theta)
    residuals = torch.randn_like(outputs)
    each = jacrev(lambda t: problem.linearised(t)[0])(theta)  # (trials, n, trials, weights)
    jacobian = torch.stack([each[k, :, k] for k in range(2)])
    torch.testing.assert_close(pull(residuals), (residuals[:, None] @ jacobian)[:, 0], rtol=1e-10, atol=1e-12)
    size = jacobian.square().sum((1, 2)) / outputs.shape[1]
    torch.testing.assert_close(problem.regulariser(theta), size, rtol=1e-10, atol=1e-12)


@each_problem
def test_a_trial_does_not_depend_on_how_many_are_trained_beside_it(problem):
    how = Training(eta=1e-3, sigma=0.5, steps=300, every=100, fit=False)
    alone, beside = (train(replace(problem, trials=trials), how) for trials in (1, 3))
    torch.testing.assert_close(alone.theta[0], beside.theta[0], rtol=1e-8, atol=1e-10)
    assert not torch.allclose(beside.theta[1], beside.theta[0], rtol=1e-3, atol=0)


def test_the_simple_solutions_are_where_the_error_is_zero():
    sensing, squares = MatrixSensing(trials=2), SparseSquares(trials=2)
    values, vectors = torch.linalg.eigh(sensing.truth)
    root = (vectors * values.clamp(min=0).sqrt()[:, None]) @ vectors.mT
    assert float(sensing.error(root.flatten(1)).max()) < 1e-20
    w = (torch.arange(100) < 5).double().repeat(2, 1)
    assert float(squares.error(w).max()) == 0 and torch.allclose(squares.linearised(w)[0], squares.labels)
    flat = ReLULine(height=0.0, trials=1)
    assert mean(flat.error(flat.start())) < 1e-9 and flat.convexity_changes(flat.start()).tolist() == [1]
    assert mean(flat.distance(flat.start())) < 1e-9


@pytest.mark.parametrize("kind", training.get_args(training.Noise))
def test_noise_stops_when_it_should_and_drops_shorten_the_steps(kind):
    how = Training(kind, eta=0.05, sigma=0.3, steps=100, settle=50, drops=(0.5, 0.9), every=10)
    assert [how.size(step) for step in (1, 50, 51, 90, 91, 150)] == pytest.approx([0.05, 0.05, 5e-3, 5e-3, 5e-4, 5e-4])
    run = train(Product(), how)
    assert run.step.tolist() == list(range(0, 151, 10)) and run.loss.shape == run.error.shape == (16, 5)
    assert bool((run.loss[-1] <= run.loss[-6]).all()) or kind == "fixed"


def test_noise_at_one_label_is_as_strong_as_in_a_batch_by_itself():
    one, every = (next(training._noise(1, Training(at=at), (4,)))[:, 0] for at in ("one", "all"))
    assert ((one != 0).sum(1) == 1).all()
    assert mean(one.square()) == pytest.approx(4, rel=0.4) and mean(every.square()) == pytest.approx(1, rel=0.2)
    signs = next(training._noise(1, Training(law="rademacher"), (4,)))
    assert set(signs.unique().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("at", ["all", "one"])
def test_noise_on_the_weights_is_as_strong_as_that_on_the_labels(at):
    problem, how = SparseSquares(d=40, ones=3, points=25, trials=400), Training(sigma=1.0, at=at, steps=1, fit=False)
    quiet = train(problem, replace(how, noise="none")).theta
    fresh, weights = (
        mean((train(problem, replace(how, noise=k)).theta - quiet).square()) for k in ("fresh", "weights")
    )
    assert weights == pytest.approx(fresh, rel=0.1)


@pytest.mark.parametrize(
    "bad", [{"noise": "loud"}, {"law": "cauchy"}, {"at": "two"}, {"eta": 0.0}, {"steps": 0}], ids=str
)
def test_senseless_training_is_refused(bad):
    with pytest.raises(UserError, match="must be"):
        Training(**bad)


# 1: the product, exactly


def test_each_step_shrinks_the_imbalance_by_exactly_one_less_eta_squared_r_squared():
    problem, generator = Product(y=0.7, u=1.8, trials=3), torch.Generator().manual_seed(0)
    theta = problem.start()
    for _ in range(200):
        targets = problem.labels + torch.randn(3, 1, dtype=torch.double, generator=generator)
        u, v = theta.T
        r = u * v - targets[:, 0]
        theta = stepped(problem, theta, targets, 0.1)
        after = theta[:, 0] ** 2 - theta[:, 1] ** 2
        torch.testing.assert_close(after, (u**2 - v**2) * (1 - 0.01 * r**2), rtol=1e-12, atol=1e-14)


def test_label_noise_balances_the_product_and_nothing_else_does():
    problem = Product(y=1.0, u=2.0, trials=20)
    how = Training(eta=0.1, sigma=1.0, steps=1500, settle=300, every=1500, law="rademacher")
    ends = {kind: train(problem, replace(how, noise=kind)) for kind in ("fresh", "none", "fixed", "weights")}
    assert float(ends["fresh"].error[-1].max()) < 1e-4
    assert float((ends["fresh"].theta.abs() - 1).abs().max()) < 1e-4  # |u| = |v| = √y
    assert float(ends["fresh"].loss[-1].max()) < 1e-10
    assert torch.equal(ends["none"].theta, problem.start())
    assert float(ends["fixed"].error[-1].min()) > 3 and mean(ends["weights"].error[-1]) > 1


# 2: noise moves what fits, at the rate η²σ²


def test_without_noise_nothing_moves_and_with_it_the_regulariser_falls_while_the_loss_stays_low():
    problem = MatrixSensing(d=6, measurements=12, trials=3)
    how = Training(eta=0.02, sigma=1.0, steps=1500, every=250)
    off, on = train(problem, replace(how, noise="none")), train(problem, how)
    assert float((off.theta - fitted(problem)).abs().max()) < 1e-8
    fall = on.regulariser.mean(1)
    assert bool((fall[1:4] < fall[:3]).all()) and float(fall[-1]) < 0.8 * float(fall[0])
    assert float(on.loss.mean(1).max()) < 0.05 * how.sigma**2


def test_twice_the_noise_or_twice_the_step_is_four_times_as_fast():
    def decay(eta, sigma, steps):
        run = train(Product(trials=64), Training(eta=eta, sigma=sigma, steps=steps, every=steps))
        return -float((run.error[-1] / run.error[0]).log().mean()) / steps

    slow = decay(0.05, 0.5, 1600)
    assert slow == pytest.approx(0.05**2 * 0.5**2, rel=0.15)
    assert decay(0.05, 1.0, 400) / slow == pytest.approx(4, rel=0.15)
    assert decay(0.1, 0.5, 400) / slow == pytest.approx(4, rel=0.15)


@pytest.mark.slow
def test_the_regulariser_of_matrix_sensing_falls_at_that_rate_too():
    problem = MatrixSensing(d=6, measurements=12, trials=8)

    def after(eta, sigma):
        steps = round(0.4 / (eta * sigma) ** 2)
        run = train(problem, Training(eta=eta, sigma=sigma, steps=steps, every=steps))
        return mean(run.regulariser[-1] / run.regulariser[0])

    fall = after(0.01, 2.0)
    assert fall < 0.85
    assert after(0.02, 2.0) == pytest.approx(fall, rel=0.06) and after(0.02, 1.0) == pytest.approx(fall, rel=0.06)


# 3 to 6: what is simple in each setting, and that other noise does not find it


@pytest.mark.slow
def test_a_relu_network_loses_its_kinks_between_collinear_points():
    problem = ReLULine(trials=3)
    how = Training(eta=0.05, sigma=1.5, steps=6000, settle=300, drops=(0.8, 0.9), every=6000)
    before = mean(problem.error(problem.start()))
    changes = {"start": mean(problem.convexity_changes(problem.start()))}
    bends = {}
    for kind, steps in (("fresh", 6000), ("fixed", 2000), ("weights", 2000)):
        run = train(problem, replace(how, noise=kind, steps=steps))
        bends[kind], changes[kind] = mean(run.error[-1]), mean(problem.convexity_changes(run.theta))
    assert bends["fresh"] < 0.25 * before and changes["fresh"] <= 3 < 6 < changes["start"]
    assert min(bends["fixed"], bends["weights"]) > 0.6 * before
    assert min(changes["fixed"], changes["weights"]) > changes["fresh"] + 2


@pytest.mark.parametrize(
    ("activation", "eta", "steps"), [("tanh", 0.1, 4000), pytest.param("sigmoid", 0.5, 6000, marks=pytest.mark.slow)]
)
def test_the_units_of_a_network_on_one_point_become_alike(activation, eta, steps):
    problem = OnePoint(activation=activation, trials=3)
    how = Training(eta=eta, sigma=1.0, steps=steps, settle=200, every=steps)
    assert int(problem.kinds(problem.start()).min()) >= 10
    assert int(problem.kinds(train(problem, how).theta).max()) <= 2
    for kind in ("fixed", "weights"):
        assert int(problem.kinds(train(problem, replace(how, noise=kind, steps=1000)).theta).min()) >= 6


@pytest.mark.slow
def test_matrix_sensing_finds_the_matrix_of_low_rank_under_label_noise_alone():
    problem = MatrixSensing(d=10, measurements=28, trials=3)
    how = Training(eta=0.02, sigma=1.5, steps=4000, settle=200, drops=(0.8, 0.9), every=4000)
    error = {kind: train(problem, replace(how, noise=kind)).error for kind in ("fresh", "fixed", "weights")}
    start = mean(error["fresh"][0])
    assert mean(error["fresh"][-1]) < 0.1 * start
    assert mean(error["fixed"][-1]) > start and mean(error["weights"][-1]) > start


@pytest.mark.slow
def test_sparse_squares_find_the_sparse_weights_under_label_noise_alone():
    problem = SparseSquares(d=40, ones=3, points=25, trials=3)
    how = Training(eta=0.01, sigma=1.0, at="one", steps=8000, settle=200, drops=(0.8, 0.9), fit=False, every=8000)
    error = {
        kind: mean(train(problem, replace(how, noise=kind)).error[-1]) for kind in ("fresh", "none", "fixed", "weights")
    }
    assert error["fresh"] < 0.3 and min(error["none"], error["fixed"]) > 5
    assert error["weights"] > 5 * error["fresh"], "as strong, it gets part of the way"


# The figures


@pytest.mark.parametrize("name", list(IMPLICIT))
def test_every_study_draws_what_it_trained_and_tells_its_numbers(name):
    study = IMPLICIT[name]
    figure, numbers = study.function(study.figure)("smoke"), study.function(study.numbers)("smoke")
    assert len(figure.axes) == 2 and all(axis.get_legend() is not None for axis in figure.axes)
    assert len(numbers) >= 4 and all(math.isfinite(v) or "at half" in k for k, v in numbers.items())


@pytest.mark.slow
def test_the_time_to_half_the_regulariser_is_the_same_for_all_step_sizes_and_noises():
    study = IMPLICIT["implicit-rate"]
    halves = [value for name, value in study.function(study.numbers)("small").items() if "at half" in name]
    assert len(halves) == 4 and halves == pytest.approx([sum(halves) / 4] * 4, rel=0.05)
