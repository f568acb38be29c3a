"""torch's own optimizers, made and asked for their state without an import of its compiler."""

from torch.optim import SGD, Adam, Optimizer

from cl_nvrm.deferred import defer_compiler

__all__ = ["SGD", "Adam", "Optimizer"]

defer_compiler(Optimizer)
