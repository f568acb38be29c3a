"""A quadratic penalty's value and gradient in one pass over the weights."""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_nvrm.noise.kernels.launch import float_bits, launch, numba

if numba is not None:
    from cl_nvrm.noise.kernels.launch import array, compiled, float_of, share

CHUNK = 4096  # elements whose value is summed at a time, so that the sum does not depend on the number of threads


def fits(*tensors: Tensor) -> bool:
    """Return whether ``pull`` can take these tensors, and numba is there to compile it."""
    first = tensors[0]
    return numba is not None and all(
        t.device.type == "cpu"
        and t.is_contiguous()
        and (t.dtype, t.shape) == (first.dtype, first.shape)
        and t.dtype in (torch.float32, torch.float64)
        for t in tensors
    )


def pull(out: Tensor, weights: Tensor, anchor: Tensor, importance: Tensor, factor: float) -> float:
    """Write ``importance`` · (``weights`` - ``anchor``) · ``factor`` to ``out``; return Σ importance (weights-anchor)².

    All are contiguous, on the CPU, of one shape and one type, float32 or float64. Bit for bit what torch would write.
    """
    size = out.numel()
    sums = np.zeros(-(-size // CHUNK))
    addresses = (out.data_ptr(), weights.data_ptr(), anchor.data_ptr(), importance.data_ptr(), sums.ctypes.data)
    launch(_compiled(out.dtype), size, *addresses, float_bits(factor))
    return float(sums.sum())


if numba is not None:

    @numba.njit(fastmath={"reassoc", "nsz"})  # a sum in any order, for the vector units
    def _product(out: Any, weights: Any, anchor: Any) -> Any:
        total = out[0] * (weights[0] - anchor[0])
        for i in range(1, len(out)):
            total += out[i] * (weights[i] - anchor[i])
        return total

    @numba.njit
    def _pull(words: Any, kind: Any) -> None:
        size = np.int64(words[0])
        out, weights = array(words[2], size, kind), array(words[3], size, kind)
        anchor, importance = array(words[4], size, kind), array(words[5], size, kind)
        sums = array(words[6], -(-size // CHUNK), np.float64)
        factor = kind(float_of(words[7]))
        first, last = share(words, CHUNK)
        for start in range(first, last, CHUNK):
            stop = min(last, start + CHUNK)
            o, w, a, s = out[start:stop], weights[start:stop], anchor[start:stop], importance[start:stop]
            for i in range(len(o)):
                o[i] = s[i] * (w[i] - a[i])
            sums[start // CHUNK] = _product(o, w, a)
            for i in range(len(o)):
                o[i] *= factor

    def _pull_float32(words: Any) -> None:
        _pull(words, np.float32)

    def _pull_float64(words: Any) -> None:
        _pull(words, np.float64)

    @cache
    def _compiled(dtype: torch.dtype) -> Any:
        return compiled({torch.float32: _pull_float32, torch.float64: _pull_float64}[dtype])
