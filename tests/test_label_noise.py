"""Label noise does what its matrix says, in every trial, and to nothing but training labels."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_nvrm.data import Images
from cl_nvrm.errors import UserError
from cl_nvrm.generalization.label_noise import SUPERCLASSES, class_map, flipped, matrix_from, transition
from cl_nvrm.spec import catalog, grammar

TRUE = torch.arange(50_000) % 10
RATES = [0.0, 0.2, 0.4, 0.45, 1.0]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("kind", ["symmetric", "pairflip"])
def test_the_realised_rate_is_the_one_asked_for(kind, rate):
    noisy = flipped(TRUE, transition(kind, rate, 10), seed=3)
    assert noisy.rate == pytest.approx(rate, abs=0.005)
    assert torch.equal(noisy.flipped, noisy.given != TRUE)
    for true in range(10):  # and of each class alike
        assert noisy.flipped[true == TRUE].double().mean() == pytest.approx(rate, abs=0.005)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_asymmetric_noise_flips_the_confusable_classes_at_the_rate_and_no_others(dataset, rate):
    noisy = flipped(TRUE, transition("asymmetric", rate, 10, dataset), seed=0)
    confusable = class_map(dataset, 10)
    for true in range(10):
        flips = noisy.given[(true == TRUE) & noisy.flipped]
        share = len(flips) / 5000
        assert share == pytest.approx(rate if true in confusable else 0, abs=0.005)
        assert set(flips.tolist()) <= {confusable.get(true)}
    assert noisy.rate == pytest.approx(rate * len(confusable) / 10, abs=0.005)


def test_pairflip_only_goes_to_the_next_class():
    noisy = flipped(TRUE, transition("pairflip", 0.4, 10), seed=1)
    assert torch.equal(noisy.given[noisy.flipped], (TRUE[noisy.flipped] + 1) % 10)


def test_symmetric_noise_goes_to_every_other_class_alike_and_never_to_the_class_itself():
    noisy = flipped(TRUE, transition("symmetric", 0.45, 10), seed=1)
    for true, given_ in itertools.permutations(range(10), 2):
        assert int(((true == TRUE) & (noisy.given == given_)).sum()) == 250


def test_cifar100_is_flipped_within_its_superclasses():
    assert sorted(SUPERCLASSES) == [group for group in range(20) for _ in range(5)]
    confusable = class_map("cifar100", 100)
    assert sorted(confusable) == sorted(confusable.values()) == list(range(100))
    assert all(SUPERCLASSES[a] == SUPERCLASSES[b] and a != b for a, b in confusable.items())


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.floats(0, 1), st.integers(0, 2**40))
def test_any_labels_keep_the_share_of_each_class_up_to_one_sample(labels, rate, seed):
    labels = torch.tensor(labels)
    matrix = transition("symmetric", rate, 4)
    noisy = flipped(labels, matrix, seed)
    for true in range(4):
        members = noisy.given[labels == true]
        for given_ in range(4):
            exact = float(matrix[true, given_]) * len(members)
            assert abs(int((members == given_).sum()) - exact) < 1 + 1e-6


def test_the_seed_decides_which_labels_are_wrong_and_not_how_many():
    matrix = transition("pairflip", 0.4, 10)
    first, again, other = (flipped(TRUE, matrix, seed) for seed in (0, 0, 1))
    assert torch.equal(first.given, again.given) and first.sha256 == again.sha256
    assert first.sha256 != other.sha256 and first.rate == other.rate


@pytest.mark.parametrize("rate", [-0.1, 1.01, float("nan")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(UserError, match="within 0 and 1"):
        transition("symmetric", rate, 10)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 0\n0 1\n", "2 x 2; for 3 classes it must be 3 x 3"),
        ("1 0 0\n0 1\n0 0 1\n", "3 x 2/3"),
        ("1 0 0\n0.5 0.4 0\n0 0 1\n", "row 2: must be probabilities that sum to 1"),
        ("1 0 0\n0 1 0\n-0.5 0.5 1\n", "row 3"),
        ("1 0 0\n0 nan 0\n0 0 1\n", "row 2"),
        ("1 0 0\n0 one 0\n0 0 1\n", "not a matrix of numbers"),
        ("", "0 x"),
    ],
)
def test_a_matrix_that_is_none_is_refused_by_file_and_row(tmp_path, text, says):
    (tmp_path / "m.txt").write_text(text)
    with pytest.raises(UserError, match=f"m.txt.*{says}"):
        matrix_from(str(tmp_path / "m.txt"), 3)


def test_a_matrix_may_have_commas_and_comments(tmp_path):
    (tmp_path / "m.txt").write_text("# true class per row\n0.5, 0.5\n\n0, 1  # never wrong\n")
    assert matrix_from(str(tmp_path / "m.txt"), 2).tolist() == [[0.5, 0.5], [0, 1]]


@pytest.fixture(scope="module")
def images():
    draws = torch.Generator().manual_seed(0)
    x, y = torch.randn(400, 1, 28, 28, generator=draws), torch.arange(400) % 10
    return Images("digits", "0", 10, x, y, x[:100], y[:100])


def build(images, text, seed=0):
    return grammar.parse("benchmarks", text).make(images, seed=seed)


NOISY = [name for name in catalog.names("benchmarks") if name.startswith("noisy")]


@pytest.mark.parametrize("name", NOISY)
def test_test_labels_stay_clean_and_flips_are_recorded(images, name):
    benchmark = build(images, f"{name}:model=mlp(width=8,depth=1),rate=0.4")
    (train,), (test,) = benchmark.train, benchmark.test
    assert torch.equal(test.labels, images.test_y)
    true = images.train_y[train.rows]
    assert torch.equal(train.labels[train.labels != true], ((true + 1) % 10)[train.labels != true])
    assert benchmark.diagnostics["flip_rate"] == float((train.labels != true).double().mean()) == 0.4
    assert benchmark.diagnostics["flips_sha256"] != build(images, f"{name}:rate=0.4", 1).diagnostics["flips_sha256"]


def test_held_out_labels_are_as_noisy_as_the_training_ones(images):
    benchmark = build(images, "noisy-mnist:holdout=100")
    held = benchmark.test[0]
    assert not set(held.rows.tolist()) & set(benchmark.train[0].rows.tolist())
    assert float((held.labels != images.train_y[held.rows]).double().mean()) == pytest.approx(0.4, abs=0.06)


def test_the_flips_have_a_seed_of_their_own(images):
    one, other = (build(images, "noisy-mnist:noise_seed=7", seed) for seed in (0, 1))
    assert one.diagnostics == other.diagnostics
    assert build(images, "noisy-mnist", 7).diagnostics == one.diagnostics


def test_memorised_and_corrected_are_of_the_flipped_samples(images):
    benchmark = build(images, "noisy-mnist:rate=0.4")
    against = benchmark.watched[1].against
    train = benchmark.train[0]
    true = images.train_y[train.rows]
    wrong = (train.labels != true).nonzero().view(-1)
    for name, labels in (("memorised", train.labels[wrong]), ("corrected", true[wrong])):
        assert torch.equal(against[name][0], wrong) and torch.equal(against[name][1], labels)
    assert set(build(images, "noisy-mnist:rate=0").watched[1].against) == {"training accuracy"}


def test_a_changed_matrix_file_is_noticed(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = torch.eye(10).tolist()
    (tmp_path / "m.txt").write_text("\n".join(" ".join(map(str, row)) for row in rows))
    term = grammar.parse("benchmarks", "noisy-mnist:noise=m.txt")
    assert "noise=m.txt@" in str(term)
    assert grammar.parse("benchmarks", str(term)) == term
    assert term.make(images, seed=0).diagnostics["flip_rate"] == 0
    rows[0], rows[1] = rows[1], rows[0]
    (tmp_path / "m.txt").write_text("\n".join(" ".join(map(str, row)) for row in rows))
    with pytest.raises(UserError, match="changed since"):
        term.make(images, seed=0)


def test_rounding_favours_no_class():
    """With 10 samples a class and 100 classes a class gets 0.045 of each other one: what is rounded must be fair."""
    labels = torch.arange(1000) % 100
    matrix = transition("symmetric", 0.45, 100)
    rates = torch.tensor([flipped(labels, matrix, seed).rate for seed in range(100)])
    assert rates.mean() == pytest.approx(0.45, abs=0.004)


def test_a_file_named_like_a_kind_of_noise_is_not_it(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairflip").write_text("nonsense")
    term = grammar.parse("benchmarks", "noisy-mnist")
    assert term.settings["noise"] == "pairflip"
    assert term.make(images, seed=0).diagnostics["flip_rate"] == 0.4


@pytest.mark.parametrize("text", ["noise=m.txt@", "noise=m.txt@12", "noise=m.txt@12345678"])
def test_a_digest_that_does_not_fit_is_refused(images, tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.txt").write_text("\n".join(" ".join(map(str, row)) for row in torch.eye(10).tolist()))
    with pytest.raises(UserError, match=r"No noise|changed since"):
        grammar.parse("benchmarks", f"noisy-mnist:{text}").make(images, seed=0)


def test_characters_are_not_mirrored_and_pictures_are(images):
    digits = build(images, "noisy-cifar10:model=small-cnn")
    pictures = build(replace(images, name="cifar10"), "noisy-cifar10:model=small-cnn")
    assert not digits.train[0].augment.flip and pictures.train[0].augment.flip
    assert build(images, "noisy-cifar10:model=small-cnn,augment=false").train[0].augment is None


def test_pixel_normalisation_centres_every_pixel_of_the_training_images(images):
    plain, centred = (build(images, f"noisy-mnist:normalise={how}").train[0] for how in ("channel", "pixel"))
    assert plain.images[plain.rows].mean(0).abs().max() > 0.01
    assert centred.images[centred.rows].mean(0).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["mat", "mat.txt", "./mat", "pairflip.txt"])
def test_a_matrix_in_a_file_is_part_of_what_a_run_is_whatever_the_file_is_called(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    texts = []
    for rate in (0.1, 0.2):
        Path(name).write_text("\n".join(" ".join(map(str, row)) for row in transition("symmetric", rate, 10).tolist()))
        texts.append(str(grammar.parse("benchmarks", f"noisy-mnist:noise={name}")))
    assert all(f"noise={name}@" in text for text in texts) and texts[0] != texts[1]


def test_a_file_that_is_called_like_a_kind_of_noise_changes_nothing(tmp_path, monkeypatch):
    before = str(grammar.parse("benchmarks", "noisy-mnist:noise=symmetric"))
    monkeypatch.chdir(tmp_path)
    Path("symmetric").write_text("1 0\n0 1")
    assert str(grammar.parse("benchmarks", "noisy-mnist:noise=symmetric")) == before
