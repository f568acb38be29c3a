"""A model for the length of a ``with`` block: in eval mode, as it is written, or with somebody listening."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

Hook = Callable[..., Any]  # module, inputs, output → what takes the output's place, or None


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Put all modules into eval mode; each comes back to the mode it was in, whatever happens."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def as_written(model: nn.Module) -> Iterator[None]:
    """Have the model in eval mode and computed as it is written; what it was comes back, whatever happens.

    Tensors among its modules' attributes, too, which are made anew in each forward pass by pruning and the like.
    """
    made = [(module, name, t) for module in model.modules() for name, t in vars(module).items() if torch.is_tensor(t)]
    eager = torch.compiler.set_stance("force_eager") if compiled(model) else nullcontext()  # type: ignore[attr-defined]
    # cuDNN differentiates recurrent layers in training mode only
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    plain = torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()
    try:
        with in_eval_mode(model), eager, plain:
            yield
    finally:
        for module, name, tensor in made:
            vars(module)[name] = tensor


def compiled(model: nn.Module) -> bool:
    """Whether some part of the model is compiled, so that hooks are not heard and graphs not kept."""
    return any(module._compiled_call_impl is not None for module in model.modules())


def copy_of(model: nn.Module) -> Any:
    """Return a deep copy, also of a model whose last pass has left tensors with a graph, as pruning and the like do.

    These are made anew in each pass, and lose their graph here.
    """
    for module in model.modules():
        for name, value in vars(module).items():
            if torch.is_tensor(value) and not value.is_leaf:
                vars(module)[name] = value.detach()
    return deepcopy(model)


@contextmanager
def listening(hooks: Iterable[tuple[nn.Module, Hook]]) -> Iterator[None]:
    """Have each hook called after its module's forward passes; the hooks go again, whatever happens."""
    handles = []
    try:
        for module, hook in hooks:
            handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def wide(tensor: Tensor) -> Tensor:
    """Return a tensor in at least float32; sums over samples have more digits than bfloat16 holds."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


@contextmanager
def wide_norms(model: nn.Module) -> Iterator[None]:
    """Have batch normalisation take its inputs in at least float32; ``vmap`` of its gradient takes no bfloat16."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    handles = [norm.register_forward_pre_hook(lambda _, inputs: wide(inputs[0])) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
