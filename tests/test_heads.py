"""Heads: any network gets an output layer a task, and is refused where it cannot; benchmarks over any data set."""

import pytest
import torch
from torch import nn

from cl_nvrm.data.images import Images, RawImages
from cl_nvrm.errors import UserError
from cl_nvrm.models.heads import Headed
from cl_nvrm.spec import catalog, grammar

SHAPE = (3, 32, 32)
CONVEX = {"ioc-mlp", "ioc-cnn"}


def photos(classes=4, count=80, shape=(3, 12, 12)):
    x = torch.randint(0, 256, (count, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    y = torch.arange(count) % classes
    return Images.standardised("photos", RawImages(x, y, x[:40].clone(), y[:40]))


@pytest.mark.parametrize("name", sorted(set(catalog.names("models")) - CONVEX))
def test_each_sample_goes_through_the_features_and_the_head_of_its_task(name):
    torch.manual_seed(0)
    network = catalog.maker("models", name)(SHAPE, 2).eval()
    x = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(1))
    alone = network(x)
    headed = Headed(network, SHAPE, 3).eval()
    assert torch.equal(headed(x, 0), alone)
    features = headed.features(x)
    mixed = headed(x, torch.tensor([2, 0, 1, 2]))
    for row, task in enumerate([2, 0, 1, 2]):
        assert torch.allclose(mixed[row], headed.heads[task](features[row : row + 1])[0], atol=1e-5)
    assert not torch.equal(headed.heads[1].weight, headed.heads[0].weight)
    assert not torch.equal(headed.heads[1].weight, headed.heads[2].weight)


@pytest.mark.parametrize("name", sorted(CONVEX))
def test_a_network_whose_weights_are_constrained_gets_no_heads(name):
    with pytest.raises(ValueError, match="constraint"):
        Headed(catalog.maker("models", name)(SHAPE, 2), SHAPE, 3)


@pytest.mark.parametrize("last", [nn.Softmax(-1), nn.Conv2d(3, 2, 1)])
def test_a_network_that_ends_in_something_else_gets_no_heads(last):
    network = nn.Sequential(nn.Linear(32, 32), last)
    with pytest.raises(ValueError, match="does not end in a linear layer"):
        Headed(network, SHAPE, 2)


def test_making_heads_leaves_modes_and_statistics_alone():
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(48), nn.Linear(48, 2))
    network[1].eval()
    headed = Headed(network, (3, 4, 4), 2)
    assert headed.features.training and int(network[1].num_batches_tracked) == 0
    assert torch.equal(network[1].running_mean, torch.zeros(48))


@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
@pytest.mark.parametrize("name", ["split", "permuted", "rotated"])
def test_pictures_of_any_shape_are_learned_by_a_network_of_any_name(name, scenario):
    model = "small-cnn(width=2,batch_norm=true)"
    term = grammar.parse("benchmarks", f"{name}:tasks=2,scenario={scenario},model={model}")
    made = term.make(photos(), seed=0)
    x, y, task = made.train[1].gather(torch.arange(9))
    logits = made.model()(x, task) if scenario == "task" else made.model()(x)
    within = 2 if name == "split" else 4
    assert logits.shape == (9, within * (2 if scenario == "class" else 1)) and made.chance == 1 / logits.shape[1]
    assert int(y.max()) < logits.shape[1]


def test_split_of_an_mlp_by_name_has_the_images_and_labels_of_split_mnist():
    images = photos(10, shape=(1, 12, 12))
    ours, known = (
        grammar.parse("benchmarks", text).make(images, seed=3)
        for text in ("split:order=seed,scenario=class", "split-mnist:order=seed,scenario=class")
    )
    for one, other in zip((*ours.train, *ours.test), (*known.train, *known.test), strict=True):
        index = torch.arange(len(one))
        assert all(torch.equal(a, b) for a, b in zip(one.gather(index), other.gather(index), strict=True))


def test_online_is_one_pass_in_small_batches_and_augmented_images_are_moved():
    made = grammar.parse("benchmarks", "split:tasks=2,online=true,augment=true").make(photos(), seed=0)
    assert (made.recipe.epochs, made.recipe.batch_size) == (1, 10)
    x = made.train[0].gather(torch.arange(8))[0]
    assert made.train[0].augment(x, torch.Generator().manual_seed(0)).shape == x.shape and made.test[0].augment is None


def test_classes_that_cannot_be_split_evenly_are_refused_with_their_number():
    with pytest.raises(UserError, match="tasks must divide the 4 classes, got 5"):
        grammar.parse("benchmarks", "split").make(photos(), seed=0)
