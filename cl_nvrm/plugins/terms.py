"""LossTerm: what a regulariser that depends on the forward pass adds to the loss, whatever the order of plug-ins.

A plug-in with such a term is a subclass with a ``name`` and a method ``term``, and leaves ``before_backward`` alone:

    class MyPlugin(LossTerm):
        name = "my-term"

        def term(self, strategy):
            return self.strength * strategy.mb_output.square().mean()

``term`` is called once an iteration between forward and backward pass, under NVRM with the noise on, and may read
``strategy.mb_x``, ``mb_y``, ``mb_task_id``, ``mb_output`` and the loss on the batch in ``strategy.loss``, to which the
terms of names before its own have then been added. None means nothing to add, now.

A penalty on weights alone is better off as a ``QuadraticPenalty`` is, outside of the autograd graph. SAM refuses terms.
"""

from typing import Any

from avalanche.core import SupervisedPlugin
from torch import Tensor


class LossTerm(SupervisedPlugin):
    """Adds ``term`` to ``strategy.loss`` before the backward pass."""

    name: str  # the order in which several terms are computed and summed

    def term(self, strategy: Any) -> Tensor | None:
        """Return what joins the loss, of the loss's shape, as a part of the autograd graph; None to leave it as is."""
        raise NotImplementedError

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Add the terms, the first plug-in of this kind for all of them.

        They are computed in order, too, not only summed: the backward pass visits what was computed last first, and so
        adds up the gradients that meet at a tensor in that order.
        """
        plugins = [plugin for plugin in strategy.plugins if isinstance(plugin, LossTerm)]
        if plugins[0] is self:
            for plugin in sorted(plugins, key=lambda plugin: plugin.name):
                term = plugin.term(strategy)
                if term is not None:
                    strategy.loss = strategy.loss + term
