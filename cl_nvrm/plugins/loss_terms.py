"""LossTerm: what a regulariser that depends on the forward pass adds to the loss, whatever the order of plug-ins.

A plug-in with such a term is a subclass with a ``name`` and a method ``term``, and leaves ``before_backward`` alone:

    class MyPlugin(LossTerm):
        name = "my-term"

        def term(self, strategy):
            return self.strength * strategy.mb_output.square().mean()

``term`` is called once an iteration between forward and backward pass, under NVRM with the noise on, and may read
``strategy.mb_x``, ``mb_y``, ``mb_task_id``, ``mb_output`` and the loss on the batch in ``strategy.loss``, to which the
terms of names before its own have then been added. None means nothing to add, now.

A penalty on weights alone is better off as a ``QuadraticPenalty`` is, outside of the autograd graph. SAM refuses terms
that are ``active``.
"""

from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from torch import Tensor, nn

from cl_nvrm.analysis.modules import compiled as compiled
from cl_nvrm.errors import UserError
from cl_nvrm.plugins.gradients import add_kept, keep

GRADIENTS = "loss terms"  # their place among the gradients of penalties


class LossTerm(SupervisedPlugin):
    """Adds ``term`` to ``strategy.loss`` before the backward pass.

    Beside a plug-in with a true attribute ``reads_data_gradient``, as SI has, the terms join the loss as numbers, and
    their gradient joins ``p.grad`` before the step, together with those of penalties: ``p.grad`` right after the
    backward pass is then the gradient of the data loss alone, at the price of one more backward pass. UserError before
    training if the network is compiled, which allows for one pass only.
    """

    name: str  # the order in which several terms are computed and summed

    @property
    def active(self) -> bool:
        """Whether there can be anything to add, with the settings as they are."""
        return True

    def term(self, strategy: Any) -> Tensor | None:
        """Return what joins the loss, of the loss's shape, as a part of the autograd graph; None to leave it as is."""
        raise NotImplementedError

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Refuse a second backward pass through a network whose compiled code overwrites what it would need."""
        if self.active and _data_gradient_is_read(strategy) and compiled(strategy.model):
            raise UserError(
                f"{self.name} cannot be compiled beside si or agem, which read the data's gradient; leave out --compile"
            )

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Add the terms, the first plug-in of this kind for all of them.

        They are computed in order, too, not only summed: the backward pass visits what was computed last first, and so
        adds up the gradients that meet at a tensor in that order.
        """
        plugins = [plugin for plugin in strategy.plugins if isinstance(plugin, LossTerm)]
        if plugins[0] is not self:
            return
        batch_loss, terms = strategy.loss, []
        for plugin in sorted(plugins, key=lambda plugin: plugin.name):
            term = plugin.term(strategy)
            if term is not None:
                terms.append(term)
                strategy.loss = strategy.loss + term
        if terms and _data_gradient_is_read(strategy):
            gradients = _gradients(torch.stack(terms).sum(), strategy.model)
            keep(strategy, GRADIENTS, gradients)
            strategy.loss = batch_loss
            for term in terms:  # one by one, as above, for the same bits
                strategy.loss = strategy.loss + term.detach()

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        """Add the gradients that are kept for now to ``p.grad``, if no other plug-in has done so already."""
        add_kept(strategy)


def _data_gradient_is_read(strategy: Any) -> bool:
    return any(getattr(plugin, "reads_data_gradient", False) for plugin in strategy.plugins)


def _gradients(total: Tensor, model: nn.Module) -> dict[str, Tensor]:
    """The gradient by each trainable weight that has one; the graph stays for the pass that follows."""
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not (weights and total.requires_grad):
        return {}
    found = torch.autograd.grad(total, list(weights.values()), retain_graph=True, allow_unused=True)
    return {name: g for name, g in zip(weights, found, strict=True) if g is not None}
