"""State: a live object's state as plain JSON beside named tensors, and back into a fresh object of the same make.

Reading executes nothing. What can be told apart as state is: numbers, texts, containers, tensors, arrays, generators,
and whatever offers ``state_dict`` and ``load_state_dict``. What is fixed when an object is made (functions, classes,
frozen dataclasses) stays as it is in the fresh one. Anything else is NotPlain: better no checkpoint than half of one.
"""

import json
import math
import random
from collections import OrderedDict
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor

FIXED = (type, FunctionType, BuiltinFunctionType, MethodType, Path, Enum, torch.dtype, torch.device)


class _Thawed:
    frozen = False


class NotPlain(Exception):
    """A value that can be neither written down nor left alone."""


class Packer:
    """Turns values into JSON trees, putting tensors aside in ``tensors``; ``weights`` are referred to by name."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._seen: dict[int, dict[str, str]] = {id(weight): {"weight": name} for name, weight in weights.items()}
        self._alive: list[Tensor] = []  # so that no id is used twice

    def pack(self, value: Any) -> Any:
        """Return the JSON tree of a value."""
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": str(value)}
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, np.ndarray):
            return {"array": self._tensor(torch.from_numpy(np.ascontiguousarray(value)))["tensor"]}
        if isinstance(value, torch.Generator):
            return {"generator": self._tensor(value.get_state())["tensor"], "device": str(value.device)}
        if type(value) in (dict, OrderedDict):
            return {"dict": [[self.pack(key), self.pack(item)] for key, item in value.items()]}
        if type(value) in (list, tuple, set):
            return {type(value).__name__: [self.pack(item) for item in value]}
        if hasattr(value, "state_dict") and hasattr(value, "load_state_dict"):
            return {"state": self.pack(dict(value.state_dict()))}
        if isinstance(value, FIXED) or getattr(type(value), "__dataclass_params__", _Thawed).frozen:
            return {"fixed": _qualified_name(value)}
        raise NotPlain(f"a {type(value).__name__}")

    def attributes(self, thing: Any) -> Any:
        """Return the tree of an object's own account of its state, or else of its attributes."""
        if hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict"):
            return self.pack(thing)
        return {"attributes": [[name, self.pack(value)] for name, value in vars(thing).items()]}

    def _tensor(self, value: Tensor) -> dict[str, str]:
        if id(value) not in self._seen:
            name = str(len(self.tensors))
            self.tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
            self._seen[id(value)] = {"tensor": name, "device": str(value.device)}
            self._alive.append(value)
        return self._seen[id(value)]


class Unpacker:
    """Turns the trees of a ``Packer`` back into values; one tensor that was in two places is again."""

    def __init__(self, tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        self.tensors, self.weights = tensors, weights
        self._made: dict[str, Tensor] = {}

    def unpack(self, tree: Any, fresh: Any = None) -> Any:
        """Return the value of a tree; ``fresh`` is what stands in its place in a new object."""
        if not isinstance(tree, dict):
            return tree
        (kind, content), *rest = tree.items()
        match kind:
            case "float":
                return float(content)
            case "weight":
                return self.weights[content]
            case "tensor":
                if content not in self._made:
                    self._made[content] = self.tensors[content].to(rest[0][1])
                return self._made[content]
            case "array":
                return self.tensors[content].numpy()
            case "generator":
                generator = torch.Generator(rest[0][1])
                generator.set_state(self.tensors[content])
                return generator
            case "dict":
                olds = fresh if isinstance(fresh, dict) else {}
                pairs = ((self.unpack(key), item) for key, item in content)
                return {key: self.unpack(item, olds.get(key)) for key, item in pairs}
            case "list" | "tuple" | "set":
                like = list(fresh) if isinstance(fresh, list | tuple) else []
                like += [None] * (len(content) - len(like))
                made = [self.unpack(item, old) for item, old in zip(content, like, strict=False)]
                return made if kind == "list" else tuple(made) if kind == "tuple" else set(made)
            case "state":
                if not hasattr(fresh, "load_state_dict"):
                    raise NotPlain("an object that a new plug-in does not have yet")
                fresh.load_state_dict(self.unpack(content))
                return fresh
            case "fixed":
                if content != _qualified_name(fresh):
                    raise NotPlain(f"{content}, where a new plug-in has {_qualified_name(fresh)}")
                return fresh
        raise NotPlain(f"'{kind}'")

    def attributes(self, tree: Any, thing: Any) -> None:
        """Put a state back into a fresh object."""
        if "attributes" not in tree:
            self.unpack(tree, thing)
            return
        values = {name: self.unpack(item, vars(thing).get(name)) for name, item in tree["attributes"]}
        if lacking := sorted(vars(thing).keys() - values.keys()):  # written when the class was another
            raise NotPlain(f"{', '.join(lacking)}, which it does not have")
        vars(thing).clear()
        vars(thing).update(values)


def _qualified_name(value: Any) -> str:
    name = getattr(value, "__qualname__", None)
    return f"{getattr(value, '__module__', '')}.{name}" if name else repr(value)


def random_states() -> dict[str, Any]:
    """Return the states of all global generators: torch's, on every device in use, numpy's and Python's."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    return {"torch": torch.get_rng_state(), "cuda": cuda, "numpy": np.random.get_state(), "python": random.getstate()}


def set_random_states(states: dict[str, Any]) -> None:
    """Put back what ``random_states`` returned."""
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
    np.random.set_state(states["numpy"])
    random.setstate(states["python"])


def dumps(tree: Any) -> str:
    """Write a tree as JSON."""
    return json.dumps(tree, separators=(",", ":"), allow_nan=False)
