"""Continual-learning benchmarks with NVRM: ``import cl_nvrm as cl``, then ``cl.run("ewc+nvrm", trials=5)``.

``run`` trains, ``load`` reads what was stored; ``strategies``, ``benchmarks``, ``models``, ``optimizers`` and
``schedules`` list what there is. See cl_nvrm/PYTHON.md for examples and cl_nvrm/README.md for the map.
"""

import os
import sys
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from tempfile import gettempdir
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cl_nvrm.errors import Diverged, Failed, MissingData, UserError
    from cl_nvrm.run.api import benchmarks, load, models, optimizers, run, schedules, strategies
    from cl_nvrm.run.results import Results
    from cl_nvrm.spec import RunResult, RunSpec

__all__ = [
    "Diverged", "Failed", "MissingData", "Results", "RunResult", "RunSpec", "UserError", "benchmarks", "load", "models",
    "optimizers", "run", "schedules", "strategies",
]  # fmt: skip

# What is above is imported when it is asked for, from here.
_PLACES = {
    **dict.fromkeys(("Diverged", "Failed", "MissingData", "UserError"), "cl_nvrm.errors"),
    **dict.fromkeys(("RunResult", "RunSpec"), "cl_nvrm.spec"),
    "Results": "cl_nvrm.run.results",
}
_ROOMS = ("benchmarks", "models", "run", "strategies")  # packages, too


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    return getattr(import_module(_PLACES.get(name, "cl_nvrm.run.api")), name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Room(ModuleType):
    """A package that can be called: ``cl_nvrm.run.main`` is a function in it, and ``cl_nvrm.run("ewc")`` trains."""

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._function(*arguments, **keywords)

    @property
    def _function(self) -> Any:
        return getattr(import_module("cl_nvrm.run.api"), self.__name__.rpartition(".")[2])

    @property
    def __signature__(self) -> Any:
        from inspect import signature

        return signature(self._function)


class _Package(ModuleType):
    """This package, which makes those of ``_ROOMS`` callable when they become attributes of it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _ROOMS and type(value) is ModuleType:
            value.__class__ = _Room
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

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
    sys.modules[_spec.name] = module_from_spec(_spec)
    setattr(sys.modules[__name__], _name, sys.modules[_spec.name])

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
