"""Continual-learning benchmarks with NVRM; see cl_nvrm/README.md for the map."""

import os
import sys
import warnings
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from tempfile import gettempdir

# strategies/ and benchmarks/ are namespace packages that may lie in several places: in a wheel beside this file, in a
# checkout beside this package, and in any folder a user names. This search path is all that joins them.
_checkout = Path(__file__).resolve().parent.parent
if __name__ != "cl_nvrm":  # from beside a clone that lies in a folder cl_nvrm: half of the imports would fail
    raise ImportError(f"cl_nvrm cannot be imported as {__name__}; install it with 'pip install {_checkout}'")
if (_checkout / "pyproject.toml").is_file():
    __path__.append(str(_checkout))
_named = [folder for folder in os.environ.get("CL_NVRM_PLUGINS", "").split(os.pathsep) if folder]
# os.path's, as Path's raises an error for a ~user that is not there
__path__ += [str(Path(os.path.expanduser(folder)).absolute()) for folder in _named]  # noqa: PTH111

# Made here, where Python would make them, so that an __init__.py in a user's folder does not hide all other places.
for _name in ("strategies", "benchmarks"):
    _spec = ModuleSpec(f"{__name__}.{_name}", None, is_package=True)
    _spec.submodule_search_locations = [str(Path(place, _name)) for place in __path__]
    globals()[_name] = sys.modules[_spec.name] = module_from_spec(_spec)

from cl_nvrm.deferred import defer  # noqa: E402  # after what makes this the package it must be

# Avalanche and others write to the user's home as soon as they are imported; in containers there may be none.
if not os.access(os.path.expanduser("~"), os.W_OK | os.X_OK):  # noqa: PTH111
    _home = Path(gettempdir(), f"cl_nvrm-{os.getuid() if hasattr(os, 'getuid') else 'home'}")
    _home.mkdir(mode=0o700, exist_ok=True)
    os.environ["HOME"] = str(_home)

# MKL's matrix products then give the same bits on any number of threads, and on four of them take a quarter less time.
# It has to be said before the first one; a user's own setting stays.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

# Avalanche imports much that nobody here uses, and much of that is heavy.
defer()

# Avalanche brings much that is heavy, and that nobody here uses.
defer()

# Said at every import of Avalanche, about solvers that only GEM needs.
warnings.filterwarnings("ignore", message="no QP solver found", category=UserWarning)
