"""The one-pass penalty: the numbers of the plain expressions, on any number of threads."""

import pytest
import torch

from cl_nvrm.noise.kernels import penalty

pytest.importorskip("numba", reason="without numba the penalties use plain torch expressions")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1,), (7,), (300, 17), (400, 300)])
def test_it_equals_the_plain_expressions_bit_for_bit_and_in_value(shape, dtype):
    torch.manual_seed(1)
    weights, anchor = torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype)
    importance = torch.rand(shape, dtype=dtype)
    out = torch.empty(shape, dtype=dtype)
    value = penalty.pull(out, weights, anchor, importance, 0.6)
    assert torch.equal(out, (importance * (weights - anchor)).mul_(0.6))
    exact = (importance.double() * (weights.double() - anchor.double()) ** 2).sum()
    assert value == pytest.approx(float(exact), rel=1e-5)


def test_the_number_of_threads_changes_neither_gradient_nor_value():
    torch.manual_seed(1)
    tensors = [torch.randn(500_000) for _ in range(3)]
    before, seen = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 4):
            torch.set_num_threads(threads)
            out = torch.empty(500_000)
            seen.append((penalty.pull(out, *tensors, 0.3), out))
    finally:
        torch.set_num_threads(before)
    assert all(value == seen[0][0] and torch.equal(out, seen[0][1]) for value, out in seen)


def test_it_takes_only_what_it_can_read():
    a = torch.zeros(4, 6)
    assert penalty.fits(a, a.clone())
    assert not penalty.fits(a, a.double())
    assert not penalty.fits(a, torch.zeros(6, 4).t())
    assert not penalty.fits(a.bfloat16())
    assert not penalty.fits(a, torch.zeros(24))
