"""Community graph: the classes of a graph's nodes, a few of which are labelled, by a graph network; one task."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from cl_nvrm.benchmark import Benchmark


def benchmark(
    *,
    network: Literal["gcn", "sage"] = "gcn",
    width: int = 64,
    depth: int = 1,
    nodes: int = 1500,
    classes: int = 6,
    labelled: int = 20,
    holdout: int = 0,
    inputs: int = 64,
    degree: float = 10.0,
    within: float = 0.5,
    noise: float = 4.0,
    seed: int,
) -> "Benchmark":
    """Draw a graph by ``stochastic_blocks``, for a network of ``depth`` hidden layers; see ``node_classification``."""
    from cl_nvrm.generalization.graphs import node_classification, stochastic_blocks

    try:
        from cl_nvrm.models.graph import GraphNetwork
    except ImportError as problem:
        raise ValueError("graph networks need more: pip install 'cl_nvrm[graphs]'") from problem
    if width < 1 or depth < 0:
        raise ValueError(f"width must be at least 1 and depth at least 0, got {width}, {depth}")
    graph = stochastic_blocks(
        nodes=nodes, classes=classes, inputs=inputs, degree=degree, within=within, noise=noise, seed=seed
    )
    return node_classification(
        graph,
        labelled=labelled,
        holdout=holdout,
        model=lambda graph: GraphNetwork(
            graph.features, graph.edges, graph.classes, kind=network, width=width, depth=depth
        ),
    )
