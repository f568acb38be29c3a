"""Graph networks by PyTorch Geometric's layers: a pass goes over the whole graph and returns the nodes asked for.

GCN: Kipf and Welling, "Semi-supervised classification with graph convolutional networks", ICLR 2017 (arXiv 1609.02907).
GraphSAGE: Hamilton, Ying and Leskovec, "Inductive representation learning on large graphs", NeurIPS 2017 (arXiv
1706.02216), here with the mean over all neighbours and without normalised outputs. On a GPU the layers' sums over edges
have no fixed order, and so no fixed last bits.
"""

import warnings
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)
    from torch_geometric.nn import GCNConv, SAGEConv
    from torch_geometric.nn.conv.gcn_conv import gcn_norm

Kind = Literal["gcn", "sage"]
CONVOLUTIONS: dict[Kind, Callable[..., nn.Module]] = {"gcn": partial(GCNConv, normalize=False), "sage": SAGEConv}


class Response(nn.Module):
    """What a hidden layer makes of its convolution: max(0, x + bias), (n, units) → (n, units)."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(units))

    def forward(self, x: Tensor) -> Tensor:
        """Return the responses (n, units)."""
        return relu(x + self.bias)


class GraphNetwork(nn.Module):
    """``depth`` hidden layers of ``width`` ReLUs, then one of ``classes`` logits, each a convolution of one ``kind``.

    ``features`` (nodes, inputs) and ``edges`` (2, edges), each edge once a direction, are buffers: they move with the
    network and are not saved with its weights. Inputs are node numbers (n, 1), of any type, floats being exact up to
    2²⁴; logits are (n, classes), and a node's are the same in every batch.

    The next layer needs all nodes; a hook on ``responses.i`` hears those asked for alone, a row for each sample.
    """

    features: Tensor
    edges: Tensor
    coefficients: Tensor | None

    def __init__(
        self, features: Tensor, edges: Tensor, classes: int, *, kind: Kind = "gcn", width: int = 64, depth: int = 1
    ) -> None:
        super().__init__()
        coefficients = None
        if kind == "gcn":  # here, once, rather than by GCNConv in each pass
            edges, coefficients = gcn_norm(edges, num_nodes=len(features), dtype=features.dtype)
        for name, tensor in (("features", features), ("edges", edges), ("coefficients", coefficients)):
            self.register_buffer(name, tensor, persistent=False)
        sizes = [features.shape[1], *[width] * depth]
        self.responses = nn.ModuleList(Response(size) for size in sizes[1:])
        convolution = CONVOLUTIONS[kind]
        self.convolutions = nn.ModuleList(convolution(*pair, bias=False) for pair in pairwise(sizes))
        self.output = convolution(sizes[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, classes); ValueError if their gradient by the node numbers is asked for."""
        if x.requires_grad:
            raise ValueError("a graph network's inputs are node numbers, which have no gradient; leave out jacobian")
        nodes = x.reshape(-1).long()
        h = self.features
        for convolution, response in zip(self.convolutions, self.responses, strict=True):
            h = self._spread(convolution, h)
            response(h.index_select(0, nodes))
            h = response.forward(h)  # without its hooks
        return self._spread(self.output, h).index_select(0, nodes)

    def _spread(self, convolution: nn.Module, h: Tensor) -> Tensor:
        of_edges = (self.edges,) if self.coefficients is None else (self.edges, self.coefficients)
        spread: Tensor = convolution(h, *of_edges)
        return spread
