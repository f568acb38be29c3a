"""Output layers of their own for several tasks, behind the features of any network that ends in a linear layer."""

from copy import deepcopy

import torch
from torch import Tensor, nn


class Headed(nn.Module):
    """The features of ``network`` with one copy of its output layer a task; logits are (n, classes).

    ``heads`` are the network's own last linear layer, followed by others of its shape and default initialisation;
    ``features`` is the network without it. ``task`` says which head each sample goes through: one number for all, or
    a tensor (n,). ``shape`` (channels, height, width) is that of an image. ValueError for a network whose last linear
    layer does not make its logits, or that keeps a constraint on its weights, which other heads would not meet.
    """

    def __init__(self, network: nn.Module, shape: tuple[int, ...], heads: int) -> None:
        super().__init__()
        kind = type(network).__name__
        if hasattr(network, "constrain"):
            raise ValueError(f"{kind} keeps a constraint on its weights, heads of their own would not; use one head")
        name, last = _output_layer(network, shape)
        self.heads = nn.ModuleList([last, *(deepcopy(last) for _ in range(heads - 1))])
        for head in self.heads[1:]:
            head.reset_parameters()  # type: ignore[operator]
        if name:
            network.set_submodule(name, nn.Identity())
        self.features = network if name else nn.Identity()

    def forward(self, x: Tensor, task: Tensor | int = 0) -> Tensor:
        """Return the logits (n, classes)."""
        return through(self.heads, self.features(x), task)


def through(heads: nn.ModuleList, features: Tensor, task: Tensor | int) -> Tensor:
    """Return the logits (n, classes) of features (n, …), each sample's from the head of its task."""
    labels = [task] if isinstance(task, int) else sorted(set(task.tolist()))
    if len(labels) == 1:
        logits: Tensor = heads[labels[0]](features)
        return logits
    logits = features.new_empty(len(features), heads[0].out_features)  # type: ignore[call-overload]
    for label in labels:
        chosen = task == label
        logits[chosen] = heads[label](features[chosen])
    return logits


def _output_layer(network: nn.Module, shape: tuple[int, ...]) -> tuple[str, nn.Linear]:
    """Return the linear layer that makes a network's logits, and its name; ValueError if the last one does not."""
    linear = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    heard: list[Tensor] = []
    if linear:
        training = network.training
        handle = linear[-1][1].register_forward_hook(lambda module, inputs, output: heard.append(output))
        try:
            with torch.no_grad():
                weight = linear[-1][1].weight
                logits = network.eval()(torch.zeros(2, *shape, dtype=weight.dtype, device=weight.device))
        finally:
            handle.remove()
            network.train(training)
        if heard and heard[-1] is logits:
            return linear[-1]
    raise ValueError(f"{type(network).__name__} does not end in a linear layer, which heads could be copies of")
