"""Weights: a run's final weights and buffers in a safetensors file with the run's id, and a fingerprint of them."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from cl_nvrm.errors import UserError
from cl_nvrm.training.replacing import replacing


def save(path: Path, model: nn.Module, run_id: str) -> None:
    """Write the state of a model, replacing an earlier file in one step."""
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as new:
        save_file(tensors, new, metadata={"run": run_id})


def load(path: Path, model: nn.Module, run_id: str) -> None:
    """Put a file's weights into a model of the same make; UserError names the file and the first key that is wrong."""
    try:
        with safe_open(path, framework="pt") as file:
            owner = (file.metadata() or {}).get("run")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as problem:
        raise UserError(f"{path} cannot be read as weights ({problem}); train again with --keep-weights") from problem
    state = model.state_dict()
    for name in [*state, *tensors]:
        here, there = (tuple(of[name].shape) if name in of else "none" for of in (state, tensors))
        if here != there:
            raise UserError(f"{path}: '{name}' is {there}, the model's is {here}; these are another model's weights")
    if owner != run_id:
        raise UserError(f"{path} holds the weights of run {owner}, not of {run_id}")
    model.load_state_dict(tensors)


def fingerprint(model: nn.Module) -> str:
    """Return sixteen hexadecimal digits over every bit of the model's weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
