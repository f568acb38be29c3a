"""Graphs: nodes to be told apart by features and edges, as a benchmark of a single task; a sample is a node.

The graph is a stochastic block model: Holland, Laskey and Leinhardt, "Stochastic blockmodels: first steps", Social
Networks 5(2), 1983. Few labelled nodes, all others to be predicted: Yang, Cohen and Salakhutdinov, "Revisiting
semi-supervised learning with graph embeddings", ICML 2016 (arXiv 1603.08861), as in the papers on graph networks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cl_nvrm.benchmark import Benchmark, Recipe, TaskData, Watched
from cl_nvrm.spec import derived_seed


@dataclass(frozen=True)
class Graph:
    """``features`` (nodes, inputs), ``edges`` (2, edges), each edge once a direction, and ``labels`` (nodes,)."""

    features: Tensor
    edges: Tensor
    labels: Tensor
    classes: int


def stochastic_blocks(
    *, nodes: int, classes: int, inputs: int, degree: float, within: float, noise: float, seed: int
) -> Graph:
    """Draw a graph without loops: node i is of class i mod ``classes``, and each pair has an edge or not by itself.

    A node has ``degree`` neighbours on average, a share ``within`` of them of its own class. Features are a Gaussian
    centre a class, of variance 1, plus Gaussian noise of standard deviation ``noise``. ValueError for sizes that do not
    fit.
    """
    if classes < 2 or nodes < 2 * classes or inputs < 1:
        raise ValueError("classes must be at least 2, nodes at least two a class, and inputs at least 1")
    if not (degree >= 0 and noise >= 0 and 0 <= within <= 1):
        raise ValueError(f"degree and noise must be at least 0 and within a share, got {degree}, {noise}, {within}")
    own, other = nodes / classes - 1, nodes - nodes / classes
    if degree * within > own or degree * (1 - within) > other:
        raise ValueError(
            f"of {nodes} nodes, {own:.0f} are of a node's own class and {other:.0f} of others; take a smaller degree"
        )
    chance = torch.Generator().manual_seed(derived_seed(seed, "edges"))
    values = torch.Generator().manual_seed(derived_seed(seed, "features"))
    labels = torch.arange(nodes) % classes
    likely = torch.where(labels[:, None] == labels, degree * within / own, degree * (1 - within) / other)
    drawn = (torch.rand(nodes, nodes, generator=chance) < likely).triu(1)
    centres = torch.randn(classes, inputs, generator=values)
    features = centres[labels] + noise * torch.randn(nodes, inputs, generator=values)
    return Graph(features, (drawn | drawn.T).nonzero().T.contiguous(), labels, classes)


def node_classification(graph: Graph, *, labelled: int, holdout: int, model: Callable[[Graph], nn.Module]) -> Benchmark:
    """Build a one-task benchmark of the first ``labelled`` nodes of each class for training, and of all others to test.

    Node i must be of class i mod ``classes``. ``holdout`` takes that many labelled nodes away, of all classes alike,
    and tests on these instead. The network sees all nodes and edges at any time; inputs are node numbers (n, 1).
    ValueError if no node is left to train or to test on.

    Watched after every epoch: ``test accuracy`` and ``training accuracy``.
    """
    count, nodes = labelled * graph.classes, len(graph.labels)
    if labelled < 1 or nodes < count + graph.classes:
        raise ValueError(
            f"labelled must be at least 1 and leave a node of each class to test on, got {labelled} for {nodes} nodes"
        )
    if not 0 <= holdout < count:
        raise ValueError(f"holdout must lie within the {count} labelled nodes, got {holdout}")
    numbers = torch.arange(nodes, dtype=torch.float32)[:, None]

    def part(begin: int, end: int) -> TaskData:
        return TaskData(numbers[begin:end], graph.labels[begin:end])

    train = part(0, count - holdout)
    test = part(count - holdout, count) if holdout else part(count, nodes)
    source, target = graph.labels[graph.edges]
    return Benchmark(
        scenario=f"one task, {len(train)} of {nodes} nodes of a graph labelled",
        train=[train],
        test=[test],
        model=lambda: model(graph),
        chance=1 / graph.classes,
        recipe=Recipe(epochs=200, batch_size=count, lr=0.01),
        diagnostics={"edges": len(source) // 2, "edges_within_classes": int((source == target).sum()) // 2},
        watched=tuple(
            Watched(data, {f"{name} accuracy": (torch.arange(len(data)), data.labels)})
            for name, data in (("test", test), ("training", train))
        ),
    )
