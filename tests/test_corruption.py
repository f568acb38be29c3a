"""Corruption takes away what it says, once and for all, and networks fit what is left as Zhang et al. 2017 found."""

import numpy as np
import pytest
import torch

from cl_nvrm import data
from cl_nvrm.data import Images
from cl_nvrm.errors import UserError
from cl_nvrm.generalization.corruption import (
    cropped,
    gaussian_images,
    pixel_permutation,
    random_labels,
    random_pixels,
    whitened,
)
from cl_nvrm.generalization.randomisation import KINDS
from cl_nvrm.models.mlp import MLP
from cl_nvrm.spec import grammar
from cl_nvrm.training.evaluate import accuracy_on
from cl_nvrm.training.record import Curves

TRUE = torch.arange(20_000) % 10
SMALL = "model=mlp(width=8,depth=1)"


def draws(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def images():
    # no two pixels of an image are equal, so an order of pixels can be read off
    return Images("digits", "0", 10, draws(400, 1, 28, 28), TRUE[:400], draws(100, 1, 28, 28) - 1, TRUE[:100])


def build(images, settings, seed=0):
    return grammar.parse("benchmarks", f"random-labels:{SMALL},{settings}").make(images, seed=seed)


def everything(task):
    return task.gather(torch.arange(len(task)))[0]


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 0.8, 1.0])
def test_nine_tenths_of_the_labels_drawn_anew_are_wrong_in_every_class(p):
    noisy = random_labels(TRUE, p, 10, seed=3)
    for true in range(10):
        given = noisy.given[true == TRUE]
        assert float((given != true).double().mean()) == pytest.approx(0.9 * p, abs=0.005)
        counts = given.bincount(minlength=10).double() / len(given)
        expected = torch.full((10,), p / 10, dtype=torch.double)
        expected[true] += 1 - p
        torch.testing.assert_close(counts, expected, rtol=0, atol=0.001)


def test_wholly_random_labels_know_nothing_of_the_class():
    """Cramér's V of given against true labels is 0, where coin tosses would leave some 0.02."""
    table = torch.zeros(10, 10, dtype=torch.double)
    table.index_put_((TRUE, random_labels(TRUE, 1.0, 10, seed=0).given), torch.ones(1).double(), accumulate=True)
    assert float(((table - 200).square() / 200).sum()) / (9 * 20_000) < 1e-6


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(p):
    with pytest.raises(UserError, match="p must lie within 0 and 1"):
        random_labels(TRUE, p, 10, seed=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_shuffle_is_a_bijection_of_pixels_that_keeps_their_channels(channels):
    order = pixel_permutation((channels, 4, 5), seed=1)
    assert torch.equal(order.sort().values, torch.arange(channels * 20))
    places = order.view(channels, 20)
    assert torch.equal(places - 20 * torch.arange(channels)[:, None], places[:1].expand(channels, -1))
    assert not torch.equal(order, torch.arange(channels * 20))
    assert not torch.equal(order, pixel_permutation((channels, 4, 5), seed=2))


def test_random_pixels_move_whole_pixels_by_an_order_of_each_images_own():
    x = torch.arange(3 * 30.0).view(1, 3, 5, 6).expand(200, -1, -1, -1)
    moved = random_pixels(x, seed=1).flatten(2)
    orders = moved[:, 0]
    assert torch.equal(moved, orders[:, None] + 30 * torch.arange(3)[:, None])
    assert torch.equal(orders.sort(1).values, torch.arange(30.0).expand(200, -1))
    assert len({tuple(order.tolist()) for order in orders}) == 200
    # each place gets each pixel alike: χ² of 900 cells, 29² degrees of freedom, 5 standard deviations
    counts = torch.nn.functional.one_hot(orders.long(), 30).sum(0).double()
    chi2 = float((counts - 200 / 30).square().sum() / (200 / 30))
    assert abs(chi2 - 29**2) < 5 * (2 * 29**2) ** 0.5


def test_random_pixels_are_the_same_in_whatever_pieces_they_are_moved(monkeypatch):
    whole = random_pixels(draws(50, 2, 4, 4), seed=1)
    monkeypatch.setattr("cl_nvrm.generalization.corruption._CHUNK", 7)
    assert torch.equal(random_pixels(draws(50, 2, 4, 4), seed=1), whole)


def test_gaussian_images_have_the_moments_of_the_data_and_nothing_else():
    like = draws(500, 3, 8, 8) * torch.tensor([1.0, 2.0, 0.5]).view(3, 1, 1) + torch.tensor([0.0, 3.0, -1.0]).view(
        3, 1, 1
    )
    made = gaussian_images(2000, like, seed=1)
    assert made.shape == (2000, 3, 8, 8)
    for channel in range(3):
        ours, theirs = made[:, channel].double(), like[:, channel].double()
        assert float(ours.mean()) == pytest.approx(float(theirs.mean()), abs=5 * float(theirs.std()) / 128_000**0.5)
        assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=5 / 256_000**0.5)
    correlations = np.corrcoef(made.flatten(1).numpy(), rowvar=False) - np.eye(192)
    assert np.abs(correlations).max() < 6 / 2000**0.5


def test_whitening_agrees_with_numpy_and_bears_a_flat_image():
    x = draws(4, 3, 5, 6) * 7 + 2
    x[3] = 4.0
    arrays = x.numpy().astype(np.float64).reshape(4, -1)
    spread = np.maximum(arrays.std(1), 1 / np.sqrt(90))
    by_hand = (arrays - arrays.mean(1, keepdims=True)) / spread[:, None]
    np.testing.assert_allclose(whitened(x).flatten(1).numpy(), by_hand, atol=2e-6)


def test_the_crop_is_the_middle_and_leaves_smaller_images_alone():
    x = draws(2, 3, 32, 30)
    assert torch.equal(cropped(x), x[:, :, 2:30, 1:29])
    assert torch.equal(cropped(x, 40), x)


@pytest.mark.parametrize("whitening", [False, True])
@pytest.mark.parametrize("corruption", KINDS)
def test_a_seed_is_one_corruption_in_every_epoch_and_another_seed_another(images, corruption, whitening):
    settings = f"corruption={corruption},whitening={str(whitening).lower()}"
    one, again, other = (build(images, settings, seed) for seed in (0, 0, 1))
    first = everything(one.train[0])
    assert torch.equal(first, everything(one.train[0])) and torch.equal(first, everything(again.train[0]))
    assert torch.equal(one.train[0].labels, again.train[0].labels)
    assert one.diagnostics == again.diagnostics
    assert one.diagnostics["corruption_sha256"] != other.diagnostics["corruption_sha256"]


@pytest.mark.parametrize("corruption", KINDS)
def test_only_what_is_named_is_corrupted_and_test_labels_never_are(images, corruption):
    benchmark = build(images, f"corruption={corruption}")
    (train,), (test,) = benchmark.train, benchmark.test
    true = build(images, "p=0").train[0].labels
    wrong = benchmark.diagnostics["wrong_labels"]
    assert torch.equal(test.labels, images.test_y)
    if corruption == "labels":
        assert wrong == float((train.labels != true).double().mean()) == pytest.approx(0.9, abs=0.02)
        assert train.images is images.train_x and test.images is images.test_x
    else:
        assert wrong == 0 and torch.equal(train.labels, true)
        assert not torch.equal(everything(test), images.test_x)


def test_shuffled_pixels_are_one_order_for_training_and_test_images(images):
    benchmark = build(images, "corruption=shuffled-pixels,whitening=false")
    (train,), (test,) = benchmark.train, benchmark.test
    order = pixel_permutation((1, 28, 28), 0)
    assert torch.equal(train.permutation, test.permutation) and not torch.equal(train.permutation, order)
    assert torch.equal(everything(test).flatten(1), images.test_x.flatten(1)[:, train.permutation])
    assert torch.equal(everything(train).flatten(1), images.train_x[train.rows].flatten(1)[:, train.permutation])


@pytest.mark.parametrize("corruption", ["shuffled-pixels", "random-pixels"])
def test_moving_pixels_changes_no_image_but_in_order(images, corruption):
    benchmark = build(images, f"corruption={corruption}")
    shown, rows = everything(benchmark.train[0]).flatten(1), build(images, "p=0").train[0].rows
    assert torch.equal(shown.sort(1).values, images.train_x[rows].flatten(1).sort(1).values)
    orders = shown.argsort(1).argsort(1) - images.train_x[rows].flatten(1).argsort(1).argsort(1)
    assert orders.count_nonzero() > 0


@pytest.mark.parametrize("corruption", KINDS)
def test_whitened_images_are_of_28_pixels_and_each_has_no_mean_and_unit_spread(corruption):
    x = draws(60, 3, 32, 32) * 2 + 1
    coloured = Images("cifar10", "0", 10, x, TRUE[:60], x[:20], TRUE[:20])
    benchmark = build(coloured, f"whitening=true,corruption={corruption}")
    for task in (benchmark.train[0], benchmark.test[0]):
        shown = everything(task).flatten(1)
        assert shown.shape[1] == 3 * 28 * 28
        torch.testing.assert_close(shown.mean(1), torch.zeros(len(task)), atol=1e-5, rtol=0)
        torch.testing.assert_close(shown.std(1, unbiased=False), torch.ones(len(task)))
    assert benchmark.model()(everything(benchmark.test[0])).shape == (20, 10)


def test_validation_samples_are_not_trained_on_and_as_corrupted(images):
    whole, benchmark = build(images, "p=0.5"), build(images, "p=0.5,validation=100")
    train, (*_, aside) = benchmark.train[0], benchmark.watched
    assert list(aside.against) == ["validation accuracy"] and "validation accuracy" not in str(whole.watched)
    assert len(aside.data) == 100 and len(train) == 300
    given = dict(zip(whole.train[0].rows.tolist(), whole.train[0].labels.tolist(), strict=True))
    apart = [dict(zip(d.rows.tolist(), d.labels.tolist(), strict=True)) for d in (train, aside.data)]
    assert apart[0] | apart[1] == given
    assert float((aside.data.labels != images.train_y[aside.data.rows]).double().mean()) == pytest.approx(0.45, abs=0.1)
    other = build(images, "p=0.5,validation=100", seed=1).watched[-1]
    assert set(other.data.rows.tolist()) != set(aside.data.rows.tolist())


def test_held_out_labels_are_as_random_as_those_for_training(images):
    (held,) = build(images, "p=0.5,holdout=200").test
    assert float((held.labels != images.train_y[held.rows]).double().mean()) == pytest.approx(0.45, abs=0.05)


def test_memorised_and_corrected_are_of_the_samples_whose_label_has_changed(images):
    benchmark = build(images, "p=0.6,validation=50")
    train, against = benchmark.train[0], benchmark.watched[1].against
    true = images.train_y[train.rows]
    wrong = (train.labels != true).nonzero().view(-1)
    for name, labels in (("memorised", train.labels[wrong]), ("corrected", true[wrong])):
        assert torch.equal(against[name][0], wrong) and torch.equal(against[name][1], labels)
    assert set(build(images, "corruption=gaussian").watched[1].against) == {"training accuracy"}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("validation=400", "validation must lie within 0 and 399"),
        ("validation=-1", "validation must lie within"),
        ("p=1.5", "p must lie within 0 and 1"),
        ("p=0.5,corruption=gaussian", "leave it out"),
        ("corruption=pixels", "one of labels, shuffled-pixels"),
        ("subset=401", "subset"),
    ],
)
def test_what_cannot_be_is_refused(images, settings, says):
    with pytest.raises(UserError, match=says):
        build(images, settings)


def test_inception_trains_ten_times_as_fast_and_the_others_by_the_papers_rate(images):
    rates = [
        grammar.parse("benchmarks", f"random-labels:model={name}").make(images, seed=0).recipe.lr
        for name in ("mlp", "small-alexnet", "small-inception")
    ]
    assert rates == [0.01, 0.01, 0.1]


def test_the_learning_rate_falls_by_a_twentieth_an_epoch(images):
    recipe = build(images, "p=1").recipe
    factor = grammar.parse("schedules", recipe.schedule).make()
    rates = [factor(epoch / recipe.epochs) for epoch in range(recipe.epochs)]
    assert np.divide(rates[1:], rates[:-1]) == pytest.approx(0.95, abs=1e-4)


def test_a_network_that_sees_shuffled_pixels_through_unshuffled_weights_learns_the_same(images, train_toy):
    """Permutation invariance is exact: the first layer's columns in the same order give the same training run."""
    whole, shuffled = (build(images, f"{kind}whitening=true") for kind in ("p=0,", "corruption=shuffled-pixels,"))
    torch.manual_seed(0)
    models = [MLP(784, 10, width=16, depth=1) for _ in range(2)]
    order = shuffled.train[0].permutation
    models[1].load_state_dict(models[0].state_dict())
    with torch.no_grad():
        models[1].trunk[1].weight.copy_(models[0].trunk[1].weight[:, order])
    for model, benchmark in zip(models, (whole, shuffled), strict=True):
        train_toy(
            [], model=model, benchmark=benchmark, optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.05), epochs=4
        )
    x = [everything(benchmark.test[0]) for benchmark in (whole, shuffled)]
    logits = [model(inputs) for model, inputs in zip(models, x, strict=True)]
    torch.testing.assert_close(*logits, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(models[1].trunk[1].weight, models[0].trunk[1].weight[:, order], rtol=1e-3, atol=1e-5)
    assert not torch.allclose(logits[0], models[0](x[1]), atol=0.1)


@pytest.fixture(scope="module")
def fitted():
    """Train one MLP by one recipe on corrupted digits; return epochs until fitted, training and test accuracy."""
    from cl_nvrm.training.loop import Strategy

    digits, found = data.load("digits"), {}

    def run(settings, weight_decay=0.0):
        key = (settings, weight_decay)
        if key not in found:
            benchmark = grammar.parse("benchmarks", f"random-labels:subset=200,{settings}").make(digits, seed=0)
            curves = Curves(benchmark.watched[1:])
            torch.manual_seed(0)
            model = MLP(784, 10, width=128, depth=1)
            strategy = Strategy(
                model=model,
                optimizer=torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, weight_decay=weight_decay),
                criterion=torch.nn.CrossEntropyLoss(),
                train_mb_size=32,
                train_epochs=50,
                plugins=[curves],
                seed=0,
            )
            for experience in benchmark.streams().train_stream:
                strategy.train(experience)
            curve = curves.values["training accuracy"]
            epoch = next((number for number, value in enumerate(curve, 1) if value == 1), None)
            found[key] = epoch, curve[-1], accuracy_on(model, benchmark.test[0])
        return found[key]

    return run


SHARES = ("p=0", "p=0.25", "p=0.5", "p=1")


@pytest.mark.slow
def test_one_recipe_fits_every_corruption_and_random_labels_last(fitted):
    images_only = [fitted(f"corruption={kind}") for kind in KINDS[1:]]
    assert all(train == 1 for _, train, _ in (*images_only, *map(fitted, SHARES)))
    slowest = fitted("p=1")[0]
    assert all(epoch < slowest for epoch, _, _ in images_only)
    assert slowest < 6 * fitted("p=0")[0]


@pytest.mark.slow
def test_time_to_fit_and_test_error_grow_with_the_share_of_random_labels(fitted):
    epochs, _, tested = zip(*map(fitted, SHARES), strict=True)
    # One run each: which of two neighbouring shares is fitted an epoch earlier is the seed's business.
    assert epochs[-1] == max(epochs) > epochs[0]
    assert list(tested) == sorted(tested, reverse=True)
    assert tested[0] > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("settings", ["p=1", "corruption=random-pixels", "corruption=gaussian"])
def test_what_is_learned_from_noise_is_chance_on_the_test_set(fitted, settings):
    """The 10,000 test images are of 300 scans, so 0.04 is some two standard deviations."""
    assert fitted(settings)[2] == pytest.approx(0.1, abs=0.04)


@pytest.mark.slow
def test_shuffled_pixels_cost_a_network_without_locality_nothing(fitted):
    assert fitted("corruption=shuffled-pixels")[2] == pytest.approx(fitted("p=0")[2], abs=0.02)


def test_weight_decay_neither_prevents_fitting_nor_does_it_much_for_true_labels(fitted):
    assert fitted("p=1", 5e-4)[1] == 1
    assert fitted("p=0", 5e-4)[2] == pytest.approx(fitted("p=0")[2], abs=0.02)
