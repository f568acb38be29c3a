"""Jacobian regularisation: logits that change little with the inputs (Hoffman, Roberts and Yaida 2019)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cl_nvrm.plugins.jacobian import JacobianPlugin

SEARCH = {"lambda": (1e-4, 1.0)}


def plugin(*, lambda_: float = 0.01, projections: int = 1, seed: int) -> "JacobianPlugin":
    """Penalise (λ/2) ‖J‖², by ``projections`` random directions (0: exactly)."""
    from cl_nvrm.plugins.jacobian import JacobianPlugin

    return JacobianPlugin(lambda_, projections=projections, seed=seed)
