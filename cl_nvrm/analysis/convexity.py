"""Convexity: whether a network's logits are convex functions of the input, tested at midpoints.

f is convex if f((x+y)/2) ≤ (f(x) + f(y))/2 for all x and y (Jensen 1906, for continuous f). Pairs that keep to it prove
nothing; one pair that does not, disproves it.
"""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cl_nvrm.errors import UserError


@dataclass(frozen=True)
class Convexity:
    """The outcome of ``n`` tests, one for each pair of inputs and each logit.

    ``violated`` is the share with f((x+y)/2) above (f(x) + f(y))/2 by more than rounding; ``largest`` is the largest
    such difference, rounding or not, in logits, and below 0 where there is none.
    """

    violated: float
    largest: float
    n: int


@torch.no_grad()
def convexity(model: nn.Module, x: Tensor, y: Tensor, *, tolerance: float = 1e-6, at_once: int = 500) -> Convexity:
    """Test the model in eval mode at the midpoints of pairs of inputs, each (n, …), ``at_once`` pairs at a time.

    A copy of the model is tested, in float64, since logits of thousands leave float32 little to tell from rounding; the
    model itself is not touched. ``tolerance`` ≥ 0 is in units of the larger of 1 and the mean of |f(x)| and |f(y)|.

    >>> convexity(nn.ReLU(), torch.tensor([[-1.0]]), torch.tensor([[3.0]]))  # 1 at the midpoint, 1.5 on the line
    Convexity(violated=0.0, largest=-0.5, n=1)
    """
    if x.shape != y.shape or not len(x):
        raise UserError(f"pairs are two tensors of one shape with at least one row, got {[*x.shape]} and {[*y.shape]}")
    if not tolerance >= 0:
        raise UserError(f"tolerance must be at least 0, got {tolerance}")
    copy = deepcopy(model).double().eval()
    excesses, sizes = [], []
    for a, b in zip(x.double().split(at_once), y.double().split(at_once), strict=True):
        at_a, at_b, between = (copy(inputs).double() for inputs in (a, b, (a + b) / 2))
        excesses.append(between - (at_a + at_b) / 2)
        sizes.append((at_a.abs() + at_b.abs()) / 2)
    excess = torch.cat(excesses)
    if not bool(excess.isfinite().all()):
        raise UserError("the model's logits are not finite, so there is nothing to compare")
    violated = excess > tolerance * torch.cat(sizes).clamp(min=1)
    return Convexity(float(violated.double().mean()), float(excess.max()), excess.numel())


def pairs(inputs: Tensor, count: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw pairs to test: ``count`` of the inputs (n, …), and ``count`` of Gaussian points of their mean and spread.

    Both are (2 ``count``, …). The inputs of a pair are two different ones.
    """
    if count < 1 or len(inputs) < 2:
        raise UserError(f"pairs need at least two inputs and a count of at least 1, got {len(inputs)} and {count}")
    draws = torch.Generator().manual_seed(seed)
    first = torch.randint(len(inputs), (count,), generator=draws)
    step = torch.randint(1, len(inputs), (count,), generator=draws)
    points = torch.randn(2, count, *inputs.shape[1:], generator=draws).to(inputs)
    points = points * inputs.std() + inputs.mean()
    chosen = [inputs[index.to(inputs.device)] for index in (first, (first + step) % len(inputs))]
    return torch.cat([chosen[0], points[0]]), torch.cat([chosen[1], points[1]])
