"""launch: run a compiled loop on the threads that torch computes with.

A second pool of threads beside torch's would fight it for the cores: OpenMP's threads go on spinning for a while after
each matrix product. So the loop is handed to the very OpenMP library that torch has loaded; where there is none to be
found, it runs on the calling thread.

A compiled loop is a C function of one argument, an array of 64-bit words: the number of elements, the number of
threads, then whatever the loop needs (addresses of arrays, integers, bits of floats).
"""

import ctypes
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

try:
    import numba
    from llvmlite.binding import add_symbol
    from numba import types
    from numba.extending import intrinsic
    from numba.extending import register_jitable as jitable
except ImportError:
    numba = None

    def jitable(function: Any) -> Any:
        """Leave a function as it is; with numba, make it one that compiled loops may call."""
        return function


__all__ = ["array", "compiled", "float_bits", "float_of", "jitable", "launch", "numba", "share"]

SMALL = 1 << 15  # elements below which waking other threads takes longer than the work

_process = ctypes.CDLL(None) if os.name == "posix" else None
OPENMP = _process if hasattr(_process, "GOMP_parallel") and hasattr(_process, "omp_get_thread_num") else None


def launch(loop: Any, size: int, *words: int) -> None:
    """Run ``loop`` over ``size`` elements; ``words`` are its further arguments. The caller keeps the arrays alive."""
    threads = torch.get_num_threads() if OPENMP is not None and size >= SMALL else 1
    arguments = (ctypes.c_uint64 * (2 + len(words)))(size, threads, *words)
    if threads == 1 or OPENMP is None:
        loop.ctypes(arguments)
    else:
        OPENMP.GOMP_parallel(ctypes.c_void_p(loop.address), arguments, threads, 0)


def float_bits(x: float) -> int:
    """Return the bits of ``x`` as a float64, to be a word."""
    return int(np.float64(x).view(np.uint64))


if numba is not None:

    def _address(name: str) -> int:
        # Without OpenMP a loop has one thread and never calls these; any function keeps the linker content.
        function = getattr(OPENMP or ctypes.pythonapi, name if OPENMP is not None else "Py_IsInitialized")
        return ctypes.cast(function, ctypes.c_void_p).value or 0

    add_symbol("cl_nvrm_thread", _address("omp_get_thread_num"))
    add_symbol("cl_nvrm_threads", _address("omp_get_num_threads"))
    _thread = types.ExternalFunction("cl_nvrm_thread", types.int32())
    _threads = types.ExternalFunction("cl_nvrm_threads", types.int32())

    @numba.njit
    def share(words: Any, step: Any) -> Any:
        """Return the first element and the one past the last of this thread's share, multiples of ``step``."""
        size = np.int64(words[0])
        if words[1] == 1:
            return 0, size
        each = -(-size // (np.int64(_threads()) * step)) * step
        first = min(size, np.int64(_thread()) * each)
        return first, min(size, first + each)

    @intrinsic
    def _pointer(typing: Any, address: Any, dtype: Any) -> Any:
        signature = types.CPointer(dtype.dtype)(address, dtype)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return signature, generate

    @numba.njit
    def array(address: Any, size: Any, dtype: Any) -> Any:
        """Return the ``size`` numbers at ``address`` as an array."""
        return numba.carray(_pointer(address, dtype), (size,))

    @numba.njit
    def float_of(word: Any) -> Any:
        """Return the float64 whose bits ``float_bits`` made a word of."""
        return np.uint64(word).view(np.float64)

    def compiled(loop: Callable[[Any], None]) -> Any:
        """Compile ``loop(words)`` to a C function, kept on disk where there is a place for it.

        numba compiles again when the loop's own file has changed, not when this one has: touch both.
        """
        signature = types.void(types.CPointer(types.uint64))
        try:
            return numba.cfunc(signature, cache=True, error_model="numpy")(loop)
        except RuntimeError:  # no folder to write to
            return numba.cfunc(signature, error_model="numpy")(loop)
