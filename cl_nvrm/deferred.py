"""Deferred: what Avalanche and torch import and hardly anybody uses, left until somebody does.

``import avalanche`` imports all of Avalanche, and with it trackers, plots, metrics and pretrained networks: twice the
time of importing torch, of which training needs an eighth. While Avalanche is imported, ``UNUSED`` are stand-ins; a
name taken from one is looked up when it is called, asked for an attribute or for its instances, or derived from.
Afterwards ``sys.modules`` has none of them, so ``import wandb`` is what it always is, before and after. Whoever has
imported Avalanche, or any of them, before has the real ones.
"""

import gc
import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

# they bring distutils; bs4; fonts; the process table; scipy; torch._dynamo; tensorboard; pydantic
UNUSED = (
    "GPUtil",
    "gdown",
    "matplotlib",
    "psutil",
    "qpsolvers",
    "torchmetrics",
    "torchvision.models",
    "torchvision.ops",
    "torch.utils.tensorboard",
    "wandb",
)


COMPILER = "torch._dynamo"
HIDDEN = "__dynamo_disable"  # where torch keeps what is to be called in a method's place


def defer() -> None:
    """Let the first import of Avalanche, whoever it is by, leave out what is unused; nothing, if it has been."""
    if "avalanche" not in sys.modules and not any(isinstance(finder, _Avalanche) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Avalanche())


def defer_compiler(optimizer: type) -> None:
    """Let methods of torch's class of optimizers that hide from its compiler do so once that is there.

    They import it, ``torch._dynamo``, when they are called first. Before somebody else has, nothing can find them.
    """
    for method in vars(optimizer).values():
        function = getattr(method, "__wrapped__", None)
        if function is not None:
            function.__dict__.setdefault(HIDDEN, partial(_until_compiled, method, function))


def _until_compiled(method: Any, function: Any, *arguments: Any, **keywords: Any) -> Any:
    if COMPILER not in sys.modules:
        return function(*arguments, **keywords)
    function.__dict__.pop(HIDDEN, None)
    return method(*arguments, **keywords)


@contextmanager
def without_compiler() -> Iterator[None]:
    """Let an optimizer step without importing torch's compiler only to tell it of a break in its graph."""
    if COMPILER in sys.modules:
        yield
        return
    standing = _Compiler(COMPILER)
    sys.modules[COMPILER] = sys.modules["torch"]._dynamo = standing  # type: ignore[attr-defined]
    try:
        yield
    finally:
        standing.go()


class _Compiler(ModuleType):
    """Stands for ``torch._dynamo`` as long as it is only told of breaks."""

    @staticmethod
    def graph_break(*_: Any) -> None:
        """There is no graph."""

    def go(self) -> None:
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]
        if vars(sys.modules["torch"]).get("_dynamo") is self:
            del sys.modules["torch"]._dynamo

    def __getattr__(self, name: str) -> Any:
        self.go()
        return getattr(importlib.import_module(COMPILER), name)


@contextmanager
def garbage() -> Iterator[None]:
    """Leave garbage where it is for a ``with`` block that imports much, all of which stays: a tenth of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class _Avalanche:
    """Finds Avalanche, once, as all others do, and has it imported with stand-ins."""

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of Avalanche, with this as its loader; None for all other modules."""
        if name != "avalanche" or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            self.loader = spec.loader
            spec.loader = self  # type: ignore[assignment]
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave it to Avalanche's own loader."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Import Avalanche, whose loader it has from now on."""
        with garbage():
            self._import(module)

    def _import(self, module: ModuleType) -> None:
        import torch  # noqa: F401  # first, as it might want one of them itself

        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self.loader
        deferral = _Deferral()
        try:
            self.loader.exec_module(module)
        except Exception:  # another version of it, which wants more of them than their names
            deferral.end()
            for name in [name for name in sys.modules if name.startswith("avalanche.")]:
                del sys.modules[name]
            self.loader.exec_module(module)
        finally:
            deferral.end()


class _Deferral:
    """Finds stand-ins for ``UNUSED``, for this thread, until it ends."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of a stand-in; None for what is used, and for what is not installed."""
        if threading.get_ident() != self.thread or not any(f"{name}.".startswith(f"{one}.") for one in UNUSED):
            return None
        found = PathFinder.find_spec(name, path)
        if found is None:
            return None
        spec = ModuleSpec(name, self, origin=found.origin)  # type: ignore[arg-type]
        spec.submodule_search_locations = found.submodule_search_locations
        spec.has_location = found.has_location  # so that it has a __file__, which inspect asks of all modules
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the stand-in."""
        return _Module(spec.name, self)

    def exec_module(self, module: ModuleType) -> None:
        """Import nothing."""

    def end(self) -> None:
        """Let everything be imported as it always is."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
            for name in [name for name, module in sys.modules.items() if isinstance(module, _Module)]:
                del sys.modules[name]


class _Module(ModuleType):
    """Stands for a module: gives names while they are only taken, and what they mean afterwards."""

    def __init__(self, name: str, deferral: _Deferral) -> None:
        super().__init__(name)
        self._deferral = deferral

    def __getattr__(self, name: str) -> Any:
        taken = _Name(self.__name__, name, self._deferral)
        if self._deferral not in sys.meta_path:
            return taken._meant()
        if name.startswith("__"):  # what importing asks of every module
            raise AttributeError(name)
        return taken


class _Name:
    """Stands for a name of a module until it is used."""

    def __init__(self, module: str, name: str, deferral: _Deferral) -> None:
        self._module, self._name, self._deferral = module, name, deferral

    def _meant(self) -> Any:
        self._deferral.end()
        module = importlib.import_module(self._module)
        if not hasattr(module, self._name):
            with suppress(ModuleNotFoundError):
                return importlib.import_module(f"{self._module}.{self._name}")  # from package import module
        return getattr(module, self._name)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._meant()(*arguments, **keywords)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what typing and copy ask of everything
            raise AttributeError(name)
        return getattr(self._meant(), name)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._meant())

    def __subclasscheck__(self, subclass: type) -> bool:
        return issubclass(subclass, self._meant())

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._meant(),)

    def __or__(self, other: Any) -> Any:
        return self._meant() | other

    def __ror__(self, other: Any) -> Any:
        return other | self._meant()
