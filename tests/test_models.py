"""The networks: sizes worked out by hand, shapes, gradients, and what they refuse."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from cl_nvrm.spec import catalog

CIFAR = (3, 32, 32)
OWN = {
    "mobilenetv2",
    "nine-layer-cnn",
    "resnet18",
    "resnet32",
    "resnet34",
    "small-alexnet",
    "small-cnn",
    "small-inception",
    "vgg16",
}
NAMES = sorted(OWN.union(catalog.names("models")) - {"mlp"})


def build(name, shape=CIFAR, classes=10, **parameters):
    torch.manual_seed(0)
    return catalog.maker("models", name)(shape, classes, **parameters)


def images(shape=CIFAR, count=2):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


def weights_of(name, **parameters):
    with torch.device("meta"):
        return sum(p.numel() for p in build(name, **parameters).parameters())


def multiply_adds(model, shape=CIFAR):
    """Count the products of weights and inputs in one image's forward pass, over convolutions and linear layers."""
    total = 0

    def add(module, _, out):
        nonlocal total
        total += out.numel() * module.weight[0].numel()

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(add)
    model.eval()(torch.empty(1, *shape, device=next(model.parameters()).device))
    return total


def conv(inputs, outputs, size=3):
    return size * size * inputs * outputs


def conv_bn(inputs, outputs, size=3):
    return conv(inputs, outputs, size) + 2 * outputs


def linear(inputs, outputs):
    return (inputs + 1) * outputs


def basic_blocks(inputs, outputs, count):
    first = conv_bn(inputs, outputs) + conv_bn(outputs, outputs)
    shortcut = conv_bn(inputs, outputs, 1) if inputs != outputs else 0
    return first + shortcut + (count - 1) * 2 * conv_bn(outputs, outputs)


def resnet(*blocks):
    stages = zip((64, 64, 128, 256), (64, 128, 256, 512), blocks, strict=True)
    return conv_bn(3, 64) + sum(basic_blocks(*stage) for stage in stages) + linear(512, 10)


# Each convolution has a bias of its own besides the scale and shift of its batch normalisation.
VGG_CHANNELS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
VGG_CONVOLUTIONS = sum(conv_bn(a, b) + b for a, b in pairwise(VGG_CHANNELS))


def inverted(inputs, expansion, outputs, shortcut=False):
    inner = inputs * expansion
    body = conv_bn(inputs, inner, 1) + (9 * inner + 2 * inner) + conv_bn(inner, outputs, 1)
    return body + (conv_bn(inputs, outputs, 1) if shortcut else 0)


MOBILENET = (
    conv_bn(3, 32)
    + inverted(32, 1, 16, shortcut=True)
    + inverted(16, 6, 24, shortcut=True)
    + inverted(24, 6, 24)
    + inverted(24, 6, 32)
    + 2 * inverted(32, 6, 32)
    + inverted(32, 6, 64)
    + 3 * inverted(64, 6, 64)
    + inverted(64, 6, 96, shortcut=True)
    + 2 * inverted(96, 6, 96)
    + inverted(96, 6, 160)
    + 2 * inverted(160, 6, 160)
    + inverted(160, 6, 320, shortcut=True)
    + conv_bn(320, 1280, 1)
    + linear(1280, 10)
)
SMALL = (conv(3, 32) + 32) + (conv(32, 64) + 64) + (conv(64, 128) + 128) + linear(128 * 4 * 4, 256) + linear(256, 10)
STAGES = ((16, 16), (16, 32), (32, 64))
RESNET32 = conv_bn(3, 16) + sum(conv_bn(i, o) + 9 * conv_bn(o, o) + (i != o) * conv_bn(i, o, 1) for i, o in STAGES)
RESNET32 += linear(64, 10)
NINE_CHANNELS = (3, 128, 128, 128, 256, 256, 256, 512, 256, 128)
NINE = sum(conv_bn(i, o) + o for i, o in pairwise(NINE_CHANNELS)) + linear(128, 10)  # biases, too

COUNTS = [
    ("resnet18", {}, resnet(2, 2, 2, 2), 11_173_962),
    ("resnet34", {}, resnet(3, 4, 6, 3), 21_282_122),
    ("resnet32", {}, RESNET32, 466_906),
    ("nine-layer-cnn", {}, NINE, 4_434_570),
    ("vgg16", {}, VGG_CONVOLUTIONS + 2 * linear(512, 512) + linear(512, 10), 15_253_578),
    ("vgg16", {"classifier": "single"}, VGG_CONVOLUTIONS + linear(512, 10), 14_728_266),
    ("mobilenetv2", {}, MOBILENET, 2_296_922),
    ("small-cnn", {}, SMALL, 620_362),
    ("small-cnn", {"batch_norm": True}, SMALL + 32 + 64 + 128, 620_586),  # scale and shift in place of a bias
]


@pytest.mark.parametrize(("name", "parameters", "by_hand", "known"), COUNTS)
def test_the_number_of_weights_is_the_one_worked_out_by_hand(name, parameters, by_hand, known):
    assert weights_of(name, **parameters) == by_hand == known


# Zhang et al. 2017, appendix A, publish these for 3×28×28 and 10 classes; scales and shifts of batch normalisation are
# not among them.
RANDOMISED = [
    ("small-alexnet", {}, 1_387_786),
    ("small-inception", {}, 1_649_402),
    ("small-inception", {"batch_norm": False}, 1_649_402),
    ("mlp", {"width": 512, "depth": 1}, 1_209_866),
    ("mlp", {"width": 512, "depth": 3}, 1_735_178),
]


@pytest.mark.parametrize(("name", "parameters", "published"), RANDOMISED)
def test_the_networks_of_randomisation_tests_have_the_published_number_of_weights(name, parameters, published):
    with torch.device("meta"):
        layers = build(name, (3, 28, 28), **parameters).modules()
    counted = [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert sum(p.numel() for layer in counted for p in layer.parameters()) == published


def test_small_inception_halves_its_images_twice_and_keeps_what_the_pool_passes_on():
    """Each module's channels and side lengths, as the published table has them."""
    sizes = []
    model = build("small-inception", (3, 28, 28))
    for layer in model:
        layer.register_forward_hook(lambda _, __, out: sizes.append(tuple(out.shape[1:])))
    model(images((3, 28, 28)))
    channels = [96, 64, 80, 160, 160, 160, 160, 144, 240, 336, 336]
    assert sizes[:11] == [(c, s, s) for c, s in zip(channels, [28] * 3 + [14] * 5 + [7] * 3, strict=True)]
    assert sizes[11:] == [(336, 1, 1), (336,), (10,)]
    plain = build("small-inception", (3, 28, 28), batch_norm=False)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in plain.modules())


def test_small_alexnet_normalises_over_five_neighbouring_channels():
    """Krizhevsky et al. 2012, section 3.3: a / (2 + 10⁻⁴ Σ a²)^0.75, channels beyond the edge counting 0."""
    norm = next(layer for layer in build("small-alexnet") if isinstance(layer, nn.LocalResponseNorm))
    x = 50 * images((8, 3, 3))
    around = torch.stack([x[:, max(0, c - 2) : c + 3].square().sum(1) for c in range(8)], dim=1)
    torch.testing.assert_close(norm(x), x / (2 + 1e-4 * around) ** 0.75)


@pytest.mark.parametrize("name", NAMES)
def test_logits_have_their_shape_and_gradients_reach_every_weight(name):
    model = build(name)
    logits = model(images())
    assert logits.shape == (2, 10)
    cross_entropy(logits, torch.tensor([3, 8])).backward()
    for key, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all(), key
        assert weight.grad.count_nonzero() > 0, key


@pytest.mark.parametrize("name", NAMES)
def test_in_evaluation_neither_memory_layout_nor_the_rest_of_the_batch_matters(name):
    model = build(name, classes=7).eval()
    x = images()
    with torch.no_grad():
        logits = model(x)
        assert logits.shape == (2, 7) and logits.isfinite().all()
        torch.testing.assert_close(model(x.to(memory_format=torch.channels_last)), logits, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(model(x[1:]), logits[1:], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2", "small-alexnet", "small-cnn", "small-inception"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (2, 9, 13)])
def test_other_images_of_at_least_8_pixels_fit(name, shape):
    with torch.device("meta"):
        model = build(name, shape)
    assert model(images(shape).to("meta")).shape == (2, 10)


def test_mnist_fits_the_nine_layer_cnn():
    with torch.device("meta"):
        model = build("nine-layer-cnn", (1, 28, 28))
    assert model(images((1, 28, 28)).to("meta")).shape == (2, 10)


def test_larger_images_fit_vgg16():
    with torch.device("meta"):
        model = build("vgg16", (1, 70, 48))
    assert model(images((1, 70, 48)).to("meta")).shape == (2, 10)


REFUSED = [
    ("resnet18", {"shape": (3, 7, 32)}, "a ResNet needs images of at least 8x8 pixels, got 7x32"),
    ("resnet34", {"shape": (3, 32, 7)}, "at least 8x8 pixels, got 32x7"),
    ("mobilenetv2", {"shape": (3, 4, 4)}, "MobileNetV2 needs images of at least 8x8 pixels, got 4x4"),
    ("small-alexnet", {"shape": (1, 7, 8)}, "small-alexnet needs images of at least 8x8 pixels, got 7x8"),
    ("small-inception", {"shape": (1, 8, 7)}, "small-inception needs images of at least 8x8 pixels, got 8x7"),
    ("small-cnn", {"shape": (1, 8, 7)}, "small-cnn needs images of at least 8x8 pixels, got 8x7"),
    ("nine-layer-cnn", {"shape": (1, 28, 27)}, "nine-layer-cnn needs images of at least 28x28 pixels, got 28x27"),
    ("nine-layer-cnn", {"width": 0}, "width must be at least 1, got 0"),
    ("vgg16", {"shape": (1, 28, 28)}, "VGG-16 needs images of at least 32x32 pixels, got 28x28"),
    ("vgg16", {"classifier": "double"}, "classifier must be one of paper, single, got 'double'"),
    ("resnet18", {"width": 0}, "width must be at least 1, got 0"),
    ("small-cnn", {"width": -2}, "width must be at least 1, got -2"),
]


@pytest.mark.parametrize(("name", "asked", "says"), REFUSED)
def test_what_cannot_be_built_says_what_would_do(name, asked, says):
    with pytest.raises(ValueError, match=says):
        build(name, **asked)


def test_width_scales_every_layer():
    narrow = weights_of("resnet18", width=16)
    assert narrow == pytest.approx(weights_of("resnet18") / 16, rel=0.02)
    assert weights_of("small-cnn", width=16) == pytest.approx(SMALL / 4, rel=0.02)


def test_small_cnn_is_cheap():
    by_hand = conv(3, 32) * 16**2 + conv(32, 64) * 8**2 + conv(64, 128) * 4**2 + 128 * 4**2 * 256 + 256 * 10
    assert multiply_adds(build("small-cnn")) == by_hand < 5_000_000


@pytest.mark.parametrize("batch_norm", [False, True])
def test_small_cnn_memorises_random_labels(batch_norm):
    model = build("small-cnn", batch_norm=batch_norm)
    x, y = images(count=64), torch.arange(64) % 10
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(40):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    assert (model(x).argmax(1) == y).all()


def test_every_build_draws_new_weights_from_the_global_random_state():
    make = partial(catalog.maker("models", "small-cnn"), CIFAR, 10)
    first, second = build("small-cnn"), make()
    again = build("small-cnn")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_regularised_mlp_without_regularisers_is_the_mlp():
    torch.manual_seed(0)
    plain = catalog.maker("models", "mlp")((3, 8, 8), 10, width=32, depth=2)
    torch.manual_seed(0)
    network = catalog.maker("models", "regularised-mlp")((3, 8, 8), 10, widths="32-32")
    for ours, its in zip(network.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, its)
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(network(x), plain(x))


def test_a_regularised_mlp_has_what_is_asked_for():
    make = catalog.maker("models", "regularised-mlp")
    network = make((1, 28, 28), 10, widths="256-128-64-32", dropout=0.5, batch_norm=True, init="xavier")
    kinds = [type(layer).__name__ for layer in network]
    assert kinds == ["Flatten", *["Linear", "BatchNorm1d", "ReLU", "Dropout"] * 4, "Linear"]
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in linear] == [256, 128, 64, 32, 10]
    assert all(layer.bias.count_nonzero() == 0 for layer in linear)
    spread = linear[0].weight.std().item()
    assert spread == pytest.approx((2 / (784 + 256)) ** 0.5, rel=0.01)
    assert {layer.p for layer in network if isinstance(layer, nn.Dropout)} == {0.5}


@pytest.mark.parametrize(
    ("asked", "says"),
    [({"widths": "a-b"}, "joined by"), ({"widths": "0"}, "at least 1"), ({"dropout": 1.0}, "dropout must lie")],
)
def test_a_regularised_mlp_that_is_none_is_refused(asked, says):
    with pytest.raises(ValueError, match=says):
        catalog.maker("models", "regularised-mlp")((1, 8, 8), 10, **asked)
