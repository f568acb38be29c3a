"""Random numbers by number: draw i of a stream is a function of the stream's key and i, and of nothing else.

So the same seed gives the same noise on any number of threads, and whether numba is there or not. The bits are those
of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a counter through a mixing function. Each 64-bit word makes two
draws. Normal ones come from the Box-Muller transform, exact up to the rounding of float32; the largest has size 6.76,
which a normal number exceeds once in 7·10¹⁰ draws (torch's own normal_ ends at 5.77).

The functions of this module are written for one number and for arrays of them alike: numba compiles them, numpy runs
them as they are. Only +, -, ·, √, integer and bit operations are used, on which all machines agree.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_nvrm.noise.kernels.launch import float_bits, jitable, launch, numba

if numba is not None:
    from cl_nvrm.noise.kernels.launch import array, compiled, float_of, share

U64, U32, I64, I32, F64, F32 = np.uint64, np.uint32, np.int64, np.int32, np.float64, np.float32
CHUNK = 1 << 13  # pairs that numpy works on at a time: their intermediates fit into the cache

# ln(1 + m) = m - m²/2 + m³ P(m) on [√½ - 1, √2 - 1]; sine and cosine on [-π/4, π/4]: minimax fits in float32
_LOG = tuple(
    F32(c)
    for c in (
        7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
        2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
    )
)  # fmt: skip
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = _LOG
_S1, _S2, _S3 = F32(-1.6666654611e-1), F32(8.3321608736e-3), F32(-1.9515295891e-4)
_C2, _C3, _C4 = F32(4.166664568298827e-2), F32(-1.388731625493765e-3), F32(2.443315711809948e-5)
_HALF, _ONE, _LN2, _ANGLE, _UNIT = F32(0.5), F32(1), F32(np.log(2)), F32(np.pi / 2**33), F32(2.0**-31)
_ROOT_HALF, _MANTISSA, _SIGN = U32(0x3F3504F3), U32(0x007FFFFF), U32(0x80000000)
_STEP = U64(0x9E3779B97F4A7C15)


@jitable
def word(key: Any, index: Any) -> Any:
    """Return the 64 random bits of number ``index``: output ``index`` + 1 of SplitMix64 seeded with ``key``."""
    x = key + (index + U64(1)) * _STEP
    x = (x ^ (x >> U64(30))) * U64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> U64(27))) * U64(0x94D049BB133111EB)
    return x ^ (x >> U64(31))


@jitable
def _log(k: Any) -> Any:
    """Return ln((k + ½) / 2³²) for 32 random bits k."""
    shifted = F32(F32(k) + _HALF)
    offset = U32(shifted.view(U32) - _ROOT_HALF)
    m = F32(U32(U32(offset & _MANTISSA) + _ROOT_HALF).view(F32) - _ONE)
    p = ((((((((_L0 * m + _L1) * m + _L2) * m + _L3) * m + _L4) * m + _L5) * m + _L6) * m + _L7) * m + _L8) * m * m * m
    return (p - _HALF * m * m + m) + F32(I32(I32(offset) >> I32(23)) - I32(32)) * _LN2


@jitable
def gaussian(bits: Any) -> Any:
    """Return two independent draws of N(0, 1) from 64 random bits: Box-Muller, the angle from an eighth of the turn."""
    low, high = U32(bits), U32(bits >> U64(32))
    radius = np.sqrt(F32(-2) * _log(low))
    angle = F32(I32(U32(high << U32(2)) | U32(1))) * _ANGLE
    square = angle * angle
    sine = angle * (_ONE + square * (_S1 + square * (_S2 + square * _S3)))
    cosine = F32(_ONE + square * (-_HALF + square * (_C2 + square * (_C3 + square * _C4))))
    # Two more bits say which quarter: the cosine's sign, and whether the two change places.
    x, y = F32(sine).view(U32), U32(cosine.view(U32) | U32(high & _SIGN))
    swap = U32((x ^ y) * U32(U32(high >> U32(30)) & U32(1)))
    return radius * U32(x ^ swap).view(F32), radius * U32(y ^ swap).view(F32)


@jitable
def laplace(bits: Any) -> Any:
    """Return two independent draws of Laplace(0, 1): an exponential draw with a random sign."""
    low, high = U32(bits), U32(bits >> U64(32))
    first, second = F32(-_log(U32(low | U32(1)))), F32(-_log(U32(high | U32(1))))
    return (
        U32(first.view(U32) | U32(low << U32(31))).view(F32),
        U32(second.view(U32) | U32(high << U32(31))).view(F32),
    )


@jitable
def uniform(bits: Any) -> Any:
    """Return two independent draws of U(-1, 1)."""
    return F32(I32(U32(bits) | U32(1))) * _UNIT, F32(I32(U32(bits >> U64(32)) | U32(1))) * _UNIT


def key(seed: int) -> int:
    """Return the key of the stream of ``seed``, any integer: keys of different seeds are unrelated."""
    return int(word(np.full(1, seed % 2**64, dtype=U64), U64(0))[0])


def fill(law: int, out: Tensor, clean: Tensor, scale: float, key: int, start: int) -> None:
    """Write ``clean`` + ``scale`` · draws into ``out``; ``law`` is an index into ``LAWS``.

    Both are contiguous tensors on the CPU of one shape and type, float32 or float64, that share no memory. The n
    elements take the words from ``start`` up to ``start`` + ⌈n/2⌉; element i and element i + ⌈n/2⌉ share one.
    """
    size = out.numel()
    half = -(-size // 2)
    if numba is not None:
        loop = _compiled(out.dtype)
        launch(loop, half, size, law, out.data_ptr(), clean.data_ptr(), float_bits(scale), key, start)
        return
    to, source = out.view(-1).numpy(), clean.view(-1).numpy()
    kind = to.dtype.type
    for first in range(0, half, CHUNK):
        last = min(half, first + CHUNK)
        x, y = LAWS[law](word(U64(key), np.arange(start + first, start + last, dtype=U64)))
        to[first:last] = source[first:last] + kind(scale) * kind(x)
        rest = slice(half + first, min(size, half + last))
        to[rest] = source[rest] + kind(scale) * kind(y[: rest.stop - rest.start])


LAWS: tuple[Callable[[Any], Any], ...] = (gaussian, laplace, uniform)

if numba is not None:

    @numba.njit
    def _fill(words: Any, kind: Any) -> None:
        size, law, scale = I64(words[2]), words[3], kind(float_of(words[6]))
        out, clean = array(words[4], size, kind), array(words[5], size, kind)
        key, start = words[7], words[8]
        half = size - size // 2
        first, last = share(words, 16)
        pairs = max(0, min(last, size // 2) - first)  # of an odd number, the middle element has no partner
        start += U64(first)
        out1, clean1 = out[first : first + pairs], clean[first : first + pairs]
        out2, clean2 = out[half + first : half + first + pairs], clean[half + first : half + first + pairs]
        # One loop for each law, for the compiler to turn into vector instructions.
        if law == 0:
            for i in range(pairs):
                x, y = gaussian(word(key, start + U64(i)))
                out1[i], out2[i] = clean1[i] + scale * kind(x), clean2[i] + scale * kind(y)
        elif law == 1:
            for i in range(pairs):
                x, y = laplace(word(key, start + U64(i)))
                out1[i], out2[i] = clean1[i] + scale * kind(x), clean2[i] + scale * kind(y)
        else:
            for i in range(pairs):
                x, y = uniform(word(key, start + U64(i)))
                out1[i], out2[i] = clean1[i] + scale * kind(x), clean2[i] + scale * kind(y)
        if first < last and last > size // 2:
            bits = word(key, start + U64(pairs))
            x, y = gaussian(bits) if law == 0 else laplace(bits) if law == 1 else uniform(bits)
            out[half - 1] = clean[half - 1] + scale * kind(x)

    def _fill_float32(words: Any) -> None:
        _fill(words, F32)

    def _fill_float64(words: Any) -> None:
        _fill(words, F64)

    @cache
    def _compiled(dtype: torch.dtype) -> Any:
        return compiled({torch.float32: _fill_float32, torch.float64: _fill_float64}[dtype])
