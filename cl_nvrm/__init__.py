"""Continual-learning benchmarks with NVRM; see cl_nvrm/README.md for the map."""

import os
import warnings
from pathlib import Path

# strategies/ and benchmarks/ are namespace packages that may lie in several places: in a wheel beside this file, in a
# checkout beside this package, and in any folder a user names. This search path is all that joins them.
_checkout = Path(__file__).resolve().parent.parent
if __name__ != "cl_nvrm":  # from beside a clone that lies in a folder cl_nvrm: half of the imports would fail
    raise ImportError(f"cl_nvrm cannot be imported as {__name__}; install it with 'pip install {_checkout}'")
if (_checkout / "pyproject.toml").is_file():
    __path__.append(str(_checkout))
__path__ += [folder for folder in os.environ.get("CL_NVRM_PLUGINS", "").split(os.pathsep) if folder]

# MKL's matrix products then give the same bits on any number of threads, and on four of them take a quarter less time.
# It has to be said before the first one; a user's own setting stays.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

# Said at every import of Avalanche, about solvers that only GEM needs.
warnings.filterwarnings("ignore", message="no QP solver found", category=UserWarning)
