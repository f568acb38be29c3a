"""Noise that stays in the weights, as Avalanche plug-ins: perturbed SGD and stochastic gradient Langevin dynamics.

Xie et al., Neural Computation 33(8), 2021, algorithm 2 (PSGD): θ ← θ - η ∇L(θ) + ξ, the control for NVRM's de-noising.
Welling and Teh, "Bayesian learning via stochastic gradient Langevin dynamics", ICML 2011, eq. 4 (SGLD): the variance of
ξ is tied to the learning rate, so that the weights come to be draws from a posterior instead of from whatever the noise
makes of them.

Noise comes in ``after_update``, so SI's path, which ends in ``after_training_iteration``, has it in.
"""

import math
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from torch import Tensor

from cl_nvrm.errors import UserError
from cl_nvrm.noise import Noise, Perturbation, Seed

Groups = list[dict[str, Any]]


class LastingNoise(SupervisedPlugin):
    """Adds fresh noise, after each step and for good, to every trainable weight that had a gradient.

    Several of these add the sum of their noises.
    """

    name: str  # the order in which several noises are summed, so that the order of plug-ins does not matter
    elementwise = True  # works on a stack of trials, too

    def __init__(self, perturbation: Perturbation) -> None:
        super().__init__()
        self.perturbation = perturbation

    def draw(self, groups: Groups) -> list[tuple[Tensor, Tensor]]:
        """Pair each weight of the optimizer's ``groups`` that had a gradient with noise, overwritten by the next."""
        return self.perturbation.draw(p for group in groups for p in group["params"] if p.grad is not None)

    @torch.no_grad()
    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        """Add the noise, the first plug-in of this kind for all of them: (θ + a) + b is not (θ + b) + a."""
        noisy = [plugin for plugin in strategy.plugins if isinstance(plugin, LastingNoise)]
        if noisy[0] is not self:
            return
        total: dict[int, tuple[Tensor, Tensor]] = {}
        for plugin in sorted(noisy, key=lambda plugin: plugin.name):
            for parameter, xi in plugin.draw(strategy.optimizer.param_groups):
                _, before = total.get(id(parameter), (parameter, None))
                total[id(parameter)] = (parameter, xi if before is None else before + xi)
        for parameter, xi in total.values():
            parameter.add_(xi)


class PSGDPlugin(LastingNoise):
    """Perturbed SGD, whatever the optimizer; arguments are those of ``Perturbation``.

    On a quadratic loss of curvature h, noise of standard deviation b gives the weights a variance of b²/(ηh(2 - ηh)),
    1/(ηh)² times that under NVRM: compare the two at scales chosen for each.
    """

    name = "psgd"

    def __init__(
        self,
        variability: float = 0.0001,
        noise: Noise | str = "gaussian",
        *,
        relative: bool = False,
        seed: Seed = 0,
    ) -> None:
        super().__init__(Perturbation(variability, noise, relative=relative, seed=seed))


class SGLDPlugin(LastingNoise):
    """Gaussian noise of variance 2 · lr · ``temperature``, with the learning rate of the param group at that step.

    Under plain SGD the weights come to be draws from exp(-L/temperature), up to terms of the order of the learning
    rate; for a loss that is the mean over N samples the Bayesian posterior is at 1/N. Optimizers with momentum or
    scaled steps get the same noise and sample from no such law. At ``temperature`` 0 no random number is drawn.
    """

    name = "sgld"

    def __init__(self, temperature: float = 1e-6, *, seed: Seed = 0) -> None:
        if not (math.isfinite(temperature) and temperature >= 0):
            raise UserError(f"temperature must be a finite number of at least 0, got {temperature}")
        super().__init__(Perturbation(math.sqrt(2 * temperature), seed=seed))

    def draw(self, groups: Groups) -> list[tuple[Tensor, Tensor]]:
        """Scale each weight's noise by the square root of its learning rate."""
        rates = {id(p): float(group["lr"]) for group in groups for p in group["params"]}
        return [(p, xi.mul_(math.sqrt(rates[id(p)]))) for p, xi in super().draw(groups)]
