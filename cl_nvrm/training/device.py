"""Device: which one a word means, and what it calls itself."""

import torch

from cl_nvrm.errors import UserError


def find_device(name: str) -> str:
    """Return the device meant by ``name``; UserError if it is not available."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as problem:
        raise UserError(f"--device {name} is not available here; write --device cpu or --device auto") from problem
    return str(device)


def device_name(device: str) -> str:
    """Return the accelerator's name, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
