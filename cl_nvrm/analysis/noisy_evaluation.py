"""Passes: a model over all batches of a loader, under draws of weight noise, one by one or side by side.

A model is any module from inputs (n, …) to outputs, logits (n, classes) where an accuracy is asked for. A loader is any
iterable of batches whose first two items are inputs (n, …) and labels (n,), one that can be gone through repeatedly. A
loss maps outputs and labels to their mean over the batch's samples; means over the loader weigh each batch by its size.

The model runs in eval mode and is left as it was, also after an exception: weights and buffers bit for bit, modes,
gradients. The global random state is neither read nor moved: every pass over the loader begins with the same one, set
by the seed, so a loader that shuffles or augments yields the same samples for every draw.
"""

import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from cl_nvrm.analysis.modules import in_eval_mode
from cl_nvrm.errors import UserError
from cl_nvrm.noise import Perturbation

Loader = Iterable[Sequence[Any]]
Loss = Callable[[Tensor, Tensor], Tensor]
TOLERANCE = 1e-5  # between draws side by side and one by one: the rounding of differently shaped matrix products


@torch.no_grad()
def means(
    model: nn.Module,
    loader: Loader,
    measures: Sequence[Loss],
    perturbation: Perturbation,
    draws: int = 1,
    *,
    at_once: int = 1,
    seed: int = 0,
) -> tuple[list[list[float]], int]:
    """Return the means of the measures over all samples, a row for each draw of noise, and the number of samples.

    ``at_once`` draws are evaluated side by side, by ``vmap`` over stacked weights, if that gives the same on the first
    batch; otherwise one by one.
    """
    if draws < 1 or at_once < 1:
        raise UserError(f"draws and at_once must be at least 1, got {draws} and {at_once}")
    if perturbation.variability and not any(p.requires_grad for p in model.parameters()):
        raise UserError("the model has no trainable weights, so there is nothing to perturb")
    rows: list[list[float]] = []
    count = 0
    with _left_as_it_was(model):
        at_once = min(at_once, draws)
        if at_once > 1:
            with _random_state(model, seed):
                first = next(islice(loader, 1), None)
            if first is None or not _same_side_by_side(model, first, measures, perturbation):
                at_once = 1
        while len(rows) < draws:
            many = min(at_once, draws - len(rows))
            if many > 1:
                evaluate = partial(_side_by_side, model, _stacked(model, perturbation, many), measures)
                found, count = _over(loader, model, evaluate, seed)
            else:
                with perturbation.around(model.parameters()):
                    found, count = _over(loader, model, partial(_alone, model, measures), seed)
            rows += found.tolist()
    return rows, count


def _over(
    loader: Loader, model: nn.Module, evaluate: Callable[[Tensor, Tensor], Tensor], seed: int
) -> tuple[Tensor, int]:
    """Return the mean over samples of what ``evaluate`` returns for batches, and the number of samples."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    with _random_state(model, seed):
        for batch in loader:
            x, y = _inputs_and_labels(model, batch)
            total = total + len(y) * evaluate(x, y)
            count += len(y)
    if not count:
        raise UserError("the loader has no samples; it must be one that can be gone through more than once")
    return total / count, count


def _alone(model: nn.Module, measures: Sequence[Loss], x: Tensor, y: Tensor) -> Tensor:
    """Return the measures with the model's own weights, (1, measures)."""
    return _values(measures, model(x), y).unsqueeze(0)


def _side_by_side(model: nn.Module, stack: dict[str, Tensor], measures: Sequence[Loss], x: Tensor, y: Tensor) -> Tensor:
    """Return the measures with each of the stacked weights, (draws, measures)."""
    rows: Tensor = vmap(lambda weights: _values(measures, functional_call(model, weights, (x,)), y))(stack)
    return rows


def _values(measures: Sequence[Loss], outputs: Tensor, y: Tensor) -> Tensor:
    values = [measure(outputs, y) for measure in measures]
    if any(value.ndim for value in values):
        raise UserError("the loss must be a number, the mean over the samples of a batch")
    return torch.stack([value.double() for value in values])


def _stacked(model: nn.Module, perturbation: Perturbation, many: int) -> dict[str, Tensor]:
    """Return the next ``many`` draws of the trainable weights, θ + ξ, by name, with a leading axis."""
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    stack = {name: p.new_empty(many, *p.shape) for name, p in trainable.items()}
    for k in range(many):
        with perturbation.around(model.parameters()):
            for name, parameter in trainable.items():
                stack[name][k] = parameter
    return stack


def _same_side_by_side(
    model: nn.Module, batch: Sequence[Any], measures: Sequence[Loss], perturbation: Perturbation
) -> bool:
    """Return whether two draws side by side give what they give one by one, on one batch; the draws are not used up.

    ``vmap`` refuses some models with a RuntimeError (branches on values, random numbers, recurrent layers), and warns
    of others that it can only take apart, which is slower than one by one. Models that keep weights where modules do
    not look for them would get clean ones.
    """
    x, y = _inputs_and_labels(model, batch)
    state = perturbation.state_dict()
    expected = []
    for _ in range(2):
        with perturbation.around(model.parameters()):
            expected.append(_alone(model, measures, x, y))
    perturbation.load_state_dict(state)
    stack = _stacked(model, perturbation, 2)
    perturbation.load_state_dict(state)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "There is a performance drop", UserWarning)
        try:
            found = _side_by_side(model, stack, measures, x, y)
        except (RuntimeError, UserWarning):
            return False
    return torch.allclose(found, torch.cat(expected), rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)


def _inputs_and_labels(model: nn.Module, batch: Sequence[Any]) -> tuple[Tensor, Tensor]:
    device = next(chain(model.parameters(), model.buffers()), torch.empty(0)).device
    return batch[0].to(device), batch[1].to(device)


@contextmanager
def _left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Eval mode for the length of a ``with`` block; then the modes and buffers there were before."""
    buffers = [(m, name, b, b.clone()) for m in model.modules() for name, b in m.named_buffers(recurse=False)]
    try:
        with in_eval_mode(model):
            yield
    finally:
        for module, name, buffer, before in buffers:
            if not torch.equal(buffer, before):
                buffer.copy_(before)
            module._buffers[name] = buffer


@contextmanager
def _random_state(model: nn.Module, seed: int) -> Iterator[None]:
    """The global random state that the seed sets, for the length of a ``with`` block; then the one before."""
    devices = {tensor.device.index for tensor in chain(model.parameters(), model.buffers()) if tensor.is_cuda}
    before, numpy_before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(sorted(devices)):
        for generator in (torch.default_generator, *(torch.cuda.default_generators[d] for d in devices)):
            generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(before)
            np.random.set_state(numpy_before)
