"""RanDumb: fixed random features of the pixels and a linear head in closed form, the trivial baseline.

Prabhu et al., "RanDumb: random representations outperform online continually learned representations", NeurIPS 2024
(arXiv 2402.08823): random Fourier features (Rahimi and Recht, "Random features for large-scale kernel machines", NIPS
2007), then the class whose mean is nearest in the Mahalanobis distance of one covariance that all classes share, as in
streaming linear discriminant analysis (Hayes and Kanan, 2020). No gradient is taken and no sample kept.

What is kept are sums over samples, so the order of samples and tasks makes no difference but to their last digits.
Three samples with features 1, 2 and 6, the first two of class a:

    class   samples   sum   mean
    a       2         3     1.5
    b       1         6     6

The sum of squares is 41, of which 3 · 1.5 + 6 · 6 = 40.5 are the means', so the variance within classes is 0.5 / 3.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from torch import Tensor, nn

from cl_nvrm.benchmark import Benchmark, TaskAware
from cl_nvrm.errors import UserError

MOST_FEATURES = 50_000  # whose covariance has 20 GB


class RandomFeatures(nn.Module):
    """Maps inputs (n, …) to the scores (n, classes) of linear discriminants on random Fourier features, in float64.

    The features approximate the kernel exp(-``gamma`` · mean squared difference of two inputs' values); at 1, it is as
    wide as scikit-learn's ``gamma="scale"`` on values of unit variance, which images of ``normalise=channel`` have. The
    discriminants are those of the class means and the shared covariance Σ + ``ridge`` · tr(Σ)/``features`` · 1, all
    classes being equally likely; tasks with heads of their own share it, too. Classes that have not come are never
    predicted.
    """

    frequencies: Tensor  # (inputs, features)
    phases: Tensor  # (features,)
    counts: Tensor  # (heads · classes,), of samples
    sums: Tensor  # (heads · classes, features)
    products: Tensor  # (features, features), the sum of z zᵀ

    def __init__(
        self, inputs: int, classes: int, *, heads: int = 1, features: int, gamma: float, ridge: float, seed: int
    ) -> None:
        super().__init__()
        self.classes, self.ridge = classes, ridge
        generator = torch.Generator().manual_seed(seed)
        exact: dict[str, Any] = {"dtype": torch.float64}
        frequencies = torch.randn(inputs, features, generator=generator, **exact) * math.sqrt(2 * gamma / inputs)
        self.register_buffer("frequencies", frequencies)
        self.register_buffer("phases", 2 * math.pi * torch.rand(features, generator=generator, **exact))
        self.register_buffer("counts", torch.zeros(heads * classes, **exact))
        self.register_buffer("sums", torch.zeros(heads * classes, features, **exact))
        self.register_buffer("products", torch.zeros(features, features, **exact))
        self.heads = nn.ModuleList(nn.utils.skip_init(nn.Linear, features, classes, **exact) for _ in range(heads))
        for parameter in self.heads.parameters():
            nn.init.zeros_(parameter)
        self._solved = True

    def lift(self, x: Tensor) -> Tensor:
        """Return the features (n, features)."""
        angles = x.flatten(1).double() @ self.frequencies + self.phases
        return math.sqrt(2 / len(self.phases)) * angles.cos()

    @torch.no_grad()
    def learn(self, x: Tensor, y: Tensor, task: Tensor) -> None:
        """Add a batch to the sums."""
        z = self.lift(x)
        place = y + self.classes * task if len(self.heads) > 1 else y
        members = nn.functional.one_hot(place, len(self.counts)).double()
        self.counts += members.sum(0)
        self.sums += members.T @ z
        self.products += z.T @ z
        self._solved = False

    @torch.no_grad()
    def solve(self) -> None:
        """Put the discriminants of all samples so far into the heads."""
        seen = self.counts > 0
        means = self.sums[seen] / self.counts[seen, None]
        covariance = (self.products - self.sums[seen].T @ means) / self.counts.sum()
        covariance.diagonal().add_(self.ridge * covariance.diagonal().mean().clamp_min(1e-12))
        centre = means.mean(0)  # what all scores have in common is left out, which keeps them small
        away = means - centre
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if bool(failed):
            raise UserError(f"a ridge of {self.ridge:g} leaves randumb's covariance singular; take a larger one")
        directions = torch.cholesky_solve(away.T, factor).T
        weight, bias = torch.zeros_like(self.sums), torch.zeros_like(self.counts)
        weight[seen] = directions
        bias[seen] = -((centre + away / 2) * directions).sum(1)
        for head, own_weight, own_bias in zip(
            self.heads, weight.split(self.classes), bias.split(self.classes), strict=True
        ):
            head.weight.copy_(own_weight)  # type: ignore[operator, union-attr]
            head.bias.copy_(own_bias)  # type: ignore[operator, union-attr]
        self._solved = True

    def forward(self, x: Tensor, task: Tensor | int = 0) -> Tensor:
        """Return each sample's scores for the classes of its head (n, classes)."""
        if not self._solved:
            self.solve()
        z = self.lift(x)
        every = torch.stack([head(z) for head in self.heads], dim=1)
        seen = (self.counts > 0).view(len(self.heads), self.classes)
        own = (
            torch.as_tensor(task, device=x.device).expand(len(x)) if len(self.heads) > 1 else x.new_zeros(len(x)).long()
        )
        scores = every[torch.arange(len(x), device=x.device), own]
        return scores.masked_fill(~seen[own], torch.finfo(torch.float32).min)


class RanDumbPlugin(SupervisedPlugin):
    """Has ``RandomFeatures`` in the place of the benchmark's network, which then sees each sample once.

    Epochs after the first would add the same samples once more, so they are left out; optimizer and learning rate have
    no part in it. ``features`` ≥ 1, ``gamma`` > 0 and ``ridge`` > 0 are those of ``RandomFeatures``. UserError for
    inputs of a single value, such as the number of a graph's node.
    """

    alone = True

    def __init__(self, features: int = 2000, *, gamma: float = 1.0, ridge: float = 1e-3, seed: int = 0) -> None:
        super().__init__()
        if not 1 <= features <= MOST_FEATURES:
            raise UserError(f"features must lie between 1 and {MOST_FEATURES:,}, got {features:,}")
        for name, value in (("gamma", gamma), ("ridge", ridge)):
            if not (math.isfinite(value) and value > 0):
                raise UserError(f"{name} must be a finite number above 0, got {value}")
        self.features, self.gamma, self.ridge, self.seed = features, gamma, ridge, seed

    def rearrange(self, benchmark: Benchmark) -> Benchmark:
        """Return the benchmark with the other network."""
        first = benchmark.train[0].gather(torch.tensor([0]))[0]
        if not first.is_floating_point() or first[0].numel() == 1:  # the number of a graph's node, say
            raise UserError("randumb needs inputs of several values on a scale, as images are")
        inputs, heads = first[0].numel(), benchmark.heads
        classes = 1 + max(max(task.targets) for task in benchmark.train)

        def model() -> nn.Module:
            values = {"features": self.features, "gamma": self.gamma, "ridge": self.ridge, "seed": self.seed}
            network = RandomFeatures(inputs, classes, heads=heads, **values)  # type: ignore[arg-type]
            return TaskAware(network) if heads > 1 else network

        return replace(benchmark, model=model)

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """End the task after its first epoch."""
        if strategy.clock.train_exp_epochs:
            strategy.stop_training()
