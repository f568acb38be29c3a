"""Complexity: how far the samples of one class lie apart in what a layer makes of them, beside how far classes do.

Features are (n, units), one row a sample; labels (n,). Arithmetic is in float64.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from cl_nvrm.analysis.modules import in_eval_mode, listening
from cl_nvrm.errors import UserError

LOGITS = "logits"  # the layer that is the model's output


@torch.no_grad()
def features(
    model: nn.Module,
    layer: str,
    loader: Iterable[Sequence[Any]],
    *,
    forward: Callable[[Sequence[Any]], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return what ``layer`` makes of all samples, flattened to (n, units), and their labels (n,).

    ``layer`` is a name out of ``model.named_modules()``, or "logits": the model's output. Batches begin with inputs and
    labels, and ``forward`` says how the model sees one (None: its inputs alone). The model runs in eval mode, and modes
    come back as they were. Of a module that a pass goes through several times, the first counts.
    """
    device = next(chain(model.parameters(), model.buffers()), torch.empty(0)).device
    heard: list[Tensor] = []
    at_logits = layer == LOGITS
    hooks = [] if at_logits else [(named(model, layer), lambda *call: heard.append(copied(call[2])))]
    rows, labels = [], []
    with listening(hooks), in_eval_mode(model):
        for batch in loader:
            heard.clear()
            output = forward(batch) if forward else model(batch[0].to(device))
            rows.append(units(output if at_logits else heard[0] if heard else None, layer, len(batch[1])))
            labels.append(batch[1].to(device))
    if not rows:
        raise UserError("the loader has no samples; it must be one that can be gone through more than once")
    return torch.cat(rows), torch.cat(labels)


def named(model: nn.Module, layer: str) -> nn.Module:
    """Return the module of that name; UserError with the names there are, if there is none."""
    modules: dict[str, nn.Module] = {name: module for name, module in model.named_modules() if name}
    if layer not in modules:
        raise UserError(f"the network has no layer '{layer}'; write {LOGITS}, or one of {', '.join(modules)}")
    return modules[layer]


def copied(response: Any) -> Any:
    """Return a layer's response as it is now: what follows may work in place, as activations do."""
    return response.clone() if isinstance(response, Tensor) else response


def units(response: Any, layer: str, samples: int) -> Tensor:
    """Return a layer's response to a batch as (n, units); UserError if it has no row for each of the samples."""
    if response is None:
        raise UserError(f"'{layer}' takes no part in this forward pass; take another layer, or {LOGITS}")
    if not isinstance(response, Tensor) or response.ndim < 1 or len(response) != samples:
        shape = tuple(response.shape) if isinstance(response, Tensor) else type(response).__name__
        raise UserError(f"'{layer}' gives {shape} for {samples} samples, not a row for each; take another layer")
    return response.reshape(samples, -1)


def intra_class_variance(features: Tensor, labels: Tensor) -> float:
    """Return Σ_n Σ_j α_j Var_j(x_n) over units n and classes j, α_j the share of class j among the samples.

    The sum over a layer of the σ_n of Mao et al., NeurIPS 2022 (arXiv 2111.15414); Var divides by the count of samples.

    >>> intra_class_variance(torch.tensor([[0.0], [2.0], [5.0], [5.0]]), torch.tensor([0, 0, 1, 1]))  # ½ · 1 + ½ · 0
    0.5
    """
    rows, place, means = _centred(features, labels)
    return float((rows - means[place]).square().sum() / len(rows))


def davies_bouldin(features: Tensor, labels: Tensor) -> float:
    """Return 1/J Σ_i max_{j≠i} (S_i + S_j)/M_ij: S_i the mean distance to the centroid of class i, M_ij of centroids.

    Davies and Bouldin, IEEE TPAMI 1(2), 1979; as "consistency of representations" the complexity measure of Natekar and
    Sharma, "Representation based complexity measures", 2020 (arXiv 2012.02775), who pool the features first. 0 if all
    classes are points, or all in one place; two centroids in one place do not count against each other.
    """
    rows, place, means = _centred(features, labels)
    if not 1 < len(means) < len(rows):
        raise UserError(f"the index needs at least two classes and more samples than classes, got {len(means)} classes")
    spread = torch.stack([(rows[place == j] - mean).norm(dim=1).mean() for j, mean in enumerate(means)])
    apart = (means[:, None] - means).norm(dim=2)
    if torch.allclose(spread, torch.zeros_like(spread)) or torch.allclose(apart, torch.zeros_like(apart)):
        return 0.0
    apart = torch.where(apart == 0, torch.inf, apart)
    return float(((spread[:, None] + spread) / apart).amax(1).mean())


def _centred(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the features (n, units), the place (n,) of each one's class among those there are, and the class means."""
    if not len(features) or len(features) != len(labels):
        raise UserError(f"there must be a label for each sample, got {len(features)} and {len(labels)}")
    rows = features.detach().reshape(len(features), -1).double()
    classes, place = labels.unique(return_inverse=True)
    means = torch.stack([rows[place == j].mean(0) for j in range(len(classes))])
    return rows, place, means
