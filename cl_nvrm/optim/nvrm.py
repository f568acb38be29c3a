"""NVRM around any torch optimizer.

Xie et al., Neural Computation 2021, eq. 10: θ ← θ - η ∇L(θ + ξ), ξ fresh each step. The authors' optimizers leave the
noise in the weights between steps and take it out every ``num_iters`` of them, so what one evaluates or saves at any
other moment is noisy. Here the noise lives from ``zero_grad()`` to ``step()``, the part of a training loop that needs
it:

    optimizer = NVRM(torch.optim.Adam(model.parameters()), variability=0.03)
    for x, y in loader:
        optimizer.zero_grad()            # θ + ξ
        loss(model(x), y).backward()
        optimizer.step()                 # θ again, bit for bit, then stepped

In a loop that calls ``zero_grad()`` after ``step()``, call ``denoise()`` before evaluating or saving.
"""

from typing import Any

import torch

from cl_nvrm.optim.wrapper import Closure, Wrapper


class NVRM(Wrapper):
    """Steps the clean weights of ``inner`` with gradients taken at freshly perturbed ones.

    ``inner`` is any torch optimizer instance; ``variability``, ``noise``, ``relative`` and ``seed`` are those of
    ``Perturbation``. Weight decay and momentum act on clean weights. With a closure, all its evaluations within one
    step (line searches of LBFGS) see the same ξ. A step that a GradScaler skips costs nothing: the next ``zero_grad``
    draws anew.

    RuntimeError if two steps in a row saw no noise, because ``zero_grad`` of another object was called: that would be
    the wrapped optimizer under a false name.
    """

    _in_closure = False
    _clean_steps = 0

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients and put fresh noise on the weights for the passes to come."""
        super().zero_grad(set_to_none)
        if not self._in_closure:
            self.perturbation.restore()
            self.perturbation.apply(self.weights)

    def denoise(self) -> None:
        """Take the noise off the weights, bit for bit; does nothing if they are clean."""
        self.perturbation.restore()

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:  # type: ignore[override]
        """Take the noise off and step the clean weights; ``closure`` as in torch, evaluated under noise."""
        if closure is None:
            self._refuse_silence(self.perturbation.active)
            self.perturbation.restore()
            return self.inner.step()
        self.perturbation.restore()
        before = self.perturbation.state_dict()

        def noisy() -> Any:
            # The same ξ each time: a line search compares losses of one function.
            self.perturbation.load_state_dict(before)
            with self.perturbation.around(self.weights):
                self._in_closure = True
                try:
                    with torch.enable_grad():
                        return closure()
                finally:
                    self._in_closure = False

        return self.inner.step(noisy)

    def _refuse_silence(self, noisy: bool) -> None:
        self._clean_steps = 0 if noisy else self._clean_steps + 1
        if self._clean_steps > 1:
            raise RuntimeError(
                "two steps in a row without noise: call this optimizer's own zero_grad() before each forward pass"
            )
