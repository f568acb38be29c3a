"""Checkpoint: a run's whole state after a task, in one file, so that it can go on bit for bit where it was killed.

A safetensors file whose header holds the JSON. It replaces its predecessor in one step. It is not flushed to the disk:
after a power cut it may be damaged, is then recognised as such, and the run starts over.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cl_nvrm.training.packing import NotPlain, Packer, Unpacker, dumps, random_states, set_random_states
from cl_nvrm.training.provenance import provenance
from cl_nvrm.training.replacing import replacing

SCHEMA = 1


class Checkpoint:
    """The file ``path`` (None: no checkpoints) with the state of a strategy and of ``parts``, its plug-ins.

    ``keep_optimizer`` is for runs whose optimizer goes on from one task to the next.
    """

    def __init__(self, path: Path | None, strategy: Any, parts: Sequence[Any], *, keep_optimizer: bool) -> None:
        self.path, self.strategy, self.keep_optimizer = path, strategy, keep_optimizer
        self.parts = [part for part in parts if part is not None]

    def save(self, history: dict[str, Any]) -> None:
        """Write the present state with what was measured so far; without one, if some plug-in's cannot be written."""
        if self.path is None:
            return
        packer = Packer(dict(self.strategy.model.named_parameters()))
        try:
            tree = {
                "schema": SCHEMA,
                "made_by": self._made_by(),
                "history": history,
                "random": packer.pack(random_states()),
                "clock": packer.attributes(self.strategy.clock),
                # The optimizer's own noise, if it has any, goes on even where the rest of it starts anew.
                "optimizer": packer.pack(self._optimizer_state()),
                "parts": [packer.attributes(part) for part in self.parts],
            }
        except NotPlain:
            return
        tensors = {f"state/{name}": tensor for name, tensor in packer.tensors.items()}
        model = self.strategy.model.state_dict()
        tensors |= {f"model/{name}": tensor.detach().cpu().clone() for name, tensor in model.items()}
        with suppress(OSError, SafetensorError), replacing(self.path) as new:  # a full disk costs it, not the run
            save_file(tensors, new, metadata={"json": dumps(tree)})

    def load(self) -> dict[str, Any] | None:
        """Put back the state of the file and return the history; None, with nothing changed, if there is no such file.

        RuntimeError if the state fits only in part; the strategy must then be built again.
        """
        if self.path is None or not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                tree = json.loads((file.metadata() or {})["json"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, ValueError):
            return None
        if tree.get("schema") != SCHEMA or tree["made_by"] != self._made_by():
            return None
        try:
            self._put_back(tree, tensors)
        except Exception as problem:
            raise RuntimeError(f"{self.path} does not fit this run ({problem})") from problem
        history: dict[str, Any] = tree["history"]
        return history

    def _put_back(self, tree: dict[str, Any], tensors: dict[str, Any]) -> None:
        model = self.strategy.model
        model.load_state_dict({n.removeprefix("model/"): t for n, t in tensors.items() if n.startswith("model/")})
        state = {n.removeprefix("state/"): t for n, t in tensors.items() if n.startswith("state/")}
        unpacker = Unpacker(state, dict(model.named_parameters()))
        self.strategy.make_optimizer(reset_optimizer_state=True)  # else the first task would reset what is loaded
        optimizer_state = unpacker.unpack(tree["optimizer"])
        if optimizer_state:
            self.strategy.optimizer.load_state_dict(optimizer_state)
        unpacker.attributes(tree["clock"], self.strategy.clock)
        for part, saved in zip(self.parts, tree["parts"], strict=True):
            unpacker.attributes(saved, part)
        set_random_states(unpacker.unpack(tree["random"]))

    def _optimizer_state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.strategy.optimizer.state_dict()
        if not self.keep_optimizer:
            state = {**state, "state": {}} if set(state) - {"state", "param_groups"} else {}
        return state

    def _made_by(self) -> dict[str, Any]:
        kinds = [type(part).__qualname__ for part in (self.strategy.optimizer, *self.parts)]
        return {"versions": provenance()["versions"], "device": str(self.strategy.device), "kinds": kinds}
