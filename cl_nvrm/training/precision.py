"""Precision: how a network is computed: number format, memory layout, compiled or not; its weights stay float32."""

import torch
from torch import Tensor, nn

from cl_nvrm.errors import UserError


class Computed(nn.Module):
    """A network with one output layer, computed in bfloat16 (autocast), or on images laid out channels last."""

    def __init__(self, network: nn.Module, *, in_bfloat16: bool, channels_last: bool) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network
        self.in_bfloat16, self.channels_last = in_bfloat16, channels_last

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, classes), in float32 so that the loss keeps its digits."""
        if self.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.in_bfloat16):
            logits: Tensor = self.network(x)
        return logits.float()


def prepare_network(network: nn.Module, *, precision: str, channels_last: bool, compiled: bool) -> nn.Module:
    """Return the network to train; itself, if nothing is asked for. UserError for one whose heads need task labels."""
    if (precision, channels_last, compiled) == ("float32", False, False):
        return network
    if getattr(network, "heads", None) is not None and len(network.heads) > 1:  # type: ignore[arg-type]
        raise UserError("--precision, --channels-last and --compile are for networks with a single head")
    if compiled:
        network.compile()
    return Computed(network, in_bfloat16=precision == "bfloat16", channels_last=channels_last)
