"""Passes: noise in the graph of a training pass, never in the weights themselves.

An optimizer that puts noise on the weights from one call of its own to another, ``zero_grad()`` to ``step()``, say, is
right in the loops that call them in that order, and wrong in silence in the others. What a loop cannot get out of order
is the forward pass itself. So while an optimizer that has joined is alive, calling a module goes through ``_call``: for
the length of the outermost call, with gradients enabled and some layer with such weights in training mode, it finds
θ + ξ in the place of each weight θ of that optimizer. The graph remembers θ + ξ, and the backward pass takes its
gradient on to θ.

So nothing needs to be taken off again: between passes, in evaluation, after an exception, and where no backward pass
ever follows, the weights are as they were.
"""

import threading
import warnings
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

_module_call: Any = None  # torch's own way to call a module, once _call stands in its place
_optimizers: "list[weakref.ref[Noisy]]" = []  # the one that was used last comes last


class _Thread(threading.local):
    inside = False


_thread = _Thread()


class Noisy(Protocol):
    """What ``join`` takes: an optimizer whose weights are to be seen through noise."""

    @property
    def weights(self) -> list[Tensor]:
        """All its parameters."""

    def noisy_weights(self) -> dict[int, Tensor]:
        """Return θ + ξ by the id of the weight; empty while no pass is to see noise."""

    def note_backward(self) -> None:
        """Take note that a backward pass came through θ + ξ."""


class Account:
    """Whether the gradients that reach one parameter were taken under noise; lives as long as the parameter."""

    def __init__(self) -> None:
        self.sent: list[Tensor] = []  # gradients by θ + ξ that are on their way
        self.perturbed = False  # the parameter itself is, by hand
        self.noisy = False  # a gradient taken under noise has come since the last step,
        self.mixed = False  # together with one that was not
        self.clean: Tensor | None = None  # the p.grad that a gradient taken at θ alone is a part of
        self._last = (False, False)  # noisy, mixed

    def arrive(self, gradient: Tensor | None) -> None:
        """Compare a backward pass's gradient, before it is added to ``p.grad``, with what was sent."""
        if gradient is not None:
            sent, self.sent = self.sent, []
            dense = len(sent) == 1 and sent[0].layout == gradient.layout == torch.strided
            mixed = dense and sent[0].data_ptr() != gradient.data_ptr()  # something was added
            self._last = (self.perturbed or bool(sent), mixed)

    arrive.__torch_unserializable__ = True  # type: ignore[attr-defined]

    def book(self, parameter: Tensor) -> None:
        """Take note of a gradient that has just been added to ``parameter.grad``."""
        if parameter.grad is not None:
            noisy, mixed = self._last
            self.noisy |= noisy
            self.mixed |= mixed and len(parameter._backward_hooks or ()) == 1  # others may change gradients
            self.clean = self.clean if noisy else parameter.grad


_accounts: "weakref.WeakValueDictionary[int, Account]" = weakref.WeakValueDictionary()


def accounts(parameters: Iterable[Tensor]) -> list[tuple[Tensor, Account]]:
    """Pair each trainable parameter with its account."""
    pairs = []
    for parameter in parameters:
        if parameter.requires_grad:
            account = _accounts.get(id(parameter))
            if account is None:
                account = _accounts[id(parameter)] = Account()
                parameter.register_hook(account.arrive)  # from here on, the parameter owns it
                parameter.register_post_accumulate_grad_hook(account.book)
            pairs.append((parameter, account))
    return pairs


def join(optimizer: Noisy) -> None:
    """Let modules see noise on the optimizer's weights for as long as it lives; of several with one weight, the last.

    Joining again makes it the last.
    """
    global _module_call
    if _optimizers and _optimizers[-1]() is optimizer:
        return
    known = any(other() is optimizer for other in _optimizers)
    _optimizers[:] = [other for other in _optimizers if other() is not optimizer]
    _optimizers.append(weakref.ref(optimizer, _optimizers.remove))
    if _module_call is None:
        _module_call, nn.Module.__call__ = nn.Module.__call__, _call  # type: ignore[method-assign]
    if not known:  # torch.compile looks at the gradients of what it finds in the place of parameters
        message, where = r"The \.grad attribute of a Tensor that is not a leaf", r"torch\._(dynamo|subclasses)"
        warnings.filterwarnings("ignore", message, module=where)


def _call(module: nn.Module, *arguments: Any, **keywords: Any) -> Any:
    """Call a module, with noise if this is the outermost call of a training pass."""
    recorded = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
    if recorded or _thread.inside or not _optimizers:
        return _module_call(module, *arguments, **keywords)
    places = _places(module)
    if not places:
        return _module_call(module, *arguments, **keywords)
    _thread.inside = True
    try:
        training = torch.is_grad_enabled() and any(part.training for part, *_ in places)
        with _replaced(places if training else []):
            return _module_call(module, *arguments, **keywords)
    finally:
        _thread.inside = False


Place = tuple[nn.Module, str, Tensor, Noisy]


def _places(module: nn.Module) -> list[Place]:
    """Where in a module the weights of optimizers are: module, name, weight, optimizer."""
    if next(module.parameters(), None) is None:
        return []
    living = [optimizer for reference in _optimizers if (optimizer := reference()) is not None]
    owners = {id(weight): optimizer for optimizer in living for weight in optimizer.weights}
    return [
        (part, name, weight, owners[id(weight)])
        for part in (module.modules() if owners else ())
        if not isinstance(part, torch.jit.ScriptModule)  # whose weights cannot be replaced
        for name, weight in part._parameters.items()
        if weight is not None and id(weight) in owners
    ]


@contextmanager
def _replaced(places: list[Place]) -> Iterator[None]:
    """Put noisy weights into the places of a module for the length of a ``with`` block."""
    noisy: dict[int, Tensor] = {}
    with temporarily_clear_interpreter_stack():  # within torch.func.vmap and its like, weights are constants
        for optimizer in {id(optimizer): optimizer for *_, optimizer in places}.values():
            values = optimizer.noisy_weights()
            weights = list({id(w): w for *_, w, owner in places if owner is optimizer and id(w) in values}.values())
            if weights:
                found = _Seen.apply(optimizer, [values[id(weight)] for weight in weights], *weights)
                noisy |= {id(weight): value for weight, value in zip(weights, found, strict=True)}
    swaps = [(part, name, weight, noisy[id(weight)]) for part, name, weight, _ in places if id(weight) in noisy]
    rnns = [(part, part._flat_weights, part._flat_weight_refs) for part, *_ in swaps if isinstance(part, nn.RNNBase)]
    try:
        for part, name, _, value in swaps:
            part._parameters[name] = value  # type: ignore[assignment]
        yield
    finally:
        for part, name, weight, value in swaps:
            if part._parameters.get(name) is value:
                part._parameters[name] = weight  # type: ignore[assignment]
        for rnn, listed, references in rnns:  # an RNN has lists of its weights, renewed when it finds others
            rnn._flat_weights, rnn._flat_weight_refs = listed, references


class _Seen(torch.autograd.Function):
    """θ ↦ θ + ξ, computed before; the gradient by θ + ξ is that by θ."""

    @staticmethod
    def forward(ctx: Any, optimizer: Noisy, values: list[Tensor], *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.optimizer = optimizer
        ctx.accounts = [account for _, account in accounts(weights)]
        if torch._C._current_graph_task_id() == -1:  # no backward pass is under way, unless one was broken off
            for account in ctx.accounts:
                account.sent = []
        ctx.set_materialize_grads(False)
        return tuple(value.detach() for value in values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        ctx.optimizer.note_backward()
        for account, gradient in zip(ctx.accounts, gradients, strict=True):
            account.sent += [] if gradient is None else [gradient.detach()]
        return None, None, *gradients
