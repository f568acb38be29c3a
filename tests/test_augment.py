import pytest
import torch
from scipy.stats import chi2

from cl_nvrm.generalization.augment import CropFlip, per_pixel

BLACK = torch.tensor([-1.0, -2.0, -3.0]).view(3, 1, 1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(count=50, height=8, width=6):
    return torch.randn(count, 3, height, width, generator=seeded(99))


def one_by_one(images, draws, pad):
    """The same, written as one would say it."""
    made = []
    for image, (down, right, mirrored) in zip(images, draws.T.tolist(), strict=True):
        frame = BLACK.repeat(1, image.shape[1] + 2 * pad, image.shape[2] + 2 * pad)
        frame[:, pad : pad + image.shape[1], pad : pad + image.shape[2]] = image
        cut = frame[:, down : down + image.shape[1], right : right + image.shape[2]]
        made.append(cut.flip(-1) if mirrored else cut)
    return torch.stack(made)


@pytest.mark.parametrize("pad", [0, 1, 4, 9])
@pytest.mark.parametrize("flip", [False, True])
def test_it_is_the_loop_over_images_bit_for_bit(pad, flip):
    images = batch()
    augment = CropFlip(BLACK, pad=pad, flip=flip)
    ours = augment(images, seeded(3))
    assert torch.equal(ours, one_by_one(images, augment.drawn(len(images), seeded(3)), pad))
    assert ours.shape == images.shape and ours.is_contiguous()


def test_layout_and_kind_of_numbers_do_not_matter():
    images = batch()
    augment = CropFlip(BLACK)
    expected = augment(images, seeded())
    assert torch.equal(augment(images.to(memory_format=torch.channels_last), seeded()), expected)
    halves = augment(images.bfloat16(), seeded())
    assert halves.dtype == torch.bfloat16 and torch.equal(halves, expected.bfloat16())


def test_the_input_stays_as_it_is_and_is_not_shared():
    images = batch()
    before = images.clone()
    made = CropFlip(BLACK, pad=0, flip=False)(images, seeded())
    assert torch.equal(made, before)  # nothing to do: the identity, in memory of its own
    made.zero_()
    CropFlip(BLACK)(images, seeded()).zero_()
    assert torch.equal(images, before)


def test_draws_follow_the_generator_and_nothing_else():
    images, augment = batch(), CropFlip(BLACK)
    first = augment(images, seeded(5))
    torch.rand(7)
    generator = seeded(5)
    assert torch.equal(augment(images, generator), first)
    assert not torch.equal(augment(images, generator), first)
    assert torch.equal(CropFlip(BLACK, flip=False).drawn(50, seeded(5))[:2], augment.drawn(50, seeded(5))[:2])


def test_all_places_are_equally_likely_and_sides_are_even():
    count = 81_000
    # A single white pixel in the middle says from the outside where its image went. Its width is even, so the middle
    # is one of two columns, and a mirrored image shows the other.
    images = torch.zeros(count, 1, 9, 10)
    images[:, 0, 4, 4] = 1
    images[:, 0, 4, 5] = 2
    made = CropFlip(torch.zeros(1, 1, 1), pad=4)(images, seeded(1))
    ones, twos = ((made == value).flatten(1).int().argmax(1) for value in (1, 2))
    assert ((made == 1).flatten(1).sum(1) == 1).all()
    row, left = ones // 10, torch.minimum(ones % 10, twos % 10)
    mirrored = twos == ones - 1
    assert set(row.tolist()) == set(left.tolist()) == set(range(9))
    seen = torch.bincount(row * 9 + left).double()
    assert float(((seen - 1000) ** 2 / 1000).sum()) < chi2.isf(1e-4, 80)
    assert abs(float(mirrored.double().mean()) - 0.5) < 4 * 0.5 / count**0.5
    # and the side does not depend on the place
    both = torch.bincount((row * 9 + left)[mirrored], minlength=81).double()
    assert float(((both - seen / 2) ** 2 / (seen / 4)).sum()) < chi2.isf(1e-4, 81)


def test_without_flips_nothing_is_mirrored():
    images = torch.arange(10.0).expand(500, 1, 9, 10)
    made = CropFlip(torch.full((1, 1, 1), -1.0), pad=4, flip=False)(images, seeded())
    steps = made.diff(dim=-1)
    assert ((steps == 1) | (made[..., 1:] == -1) | (made[..., :-1] == -1)).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_makes_the_same_images():
    images, augment = batch(), CropFlip(BLACK)
    assert torch.equal(augment(images.cuda(), seeded()).cpu(), augment(images, seeded()))


def test_the_mean_image():
    images = batch()
    mean = per_pixel(images)
    assert mean.shape == images.shape[1:]
    torch.testing.assert_close((images - mean).mean(0), torch.zeros_like(mean), rtol=0, atol=1e-6)
