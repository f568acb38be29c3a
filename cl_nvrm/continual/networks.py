"""Networks by name, with the heads that a scenario wants and the recipe they are trained by over several tasks."""

from collections.abc import Callable

from torch import nn

from cl_nvrm.benchmark import Recipe
from cl_nvrm.models.heads import Headed
from cl_nvrm.spec import grammar
from cl_nvrm.spec.catalog import maker, recipe

Network = Callable[[int, int], nn.Module]  # numbers of outputs and of heads, to a network


def network(model: str, shape: tuple[int, ...]) -> Network:
    """Return what makes the network of that name, ``name(key=value)``, for images of ``shape``; one head is its own."""
    term = grammar.parse_nested("models", model)

    def made(classes: int, heads: int) -> nn.Module:
        one: nn.Module = term.make(shape, classes)
        return one if heads == 1 else Headed(one, shape, heads)

    return made


def recipe_of(model: str, *, fresh_optimizer: bool, online: bool = False) -> Recipe:
    """Return the recipe of several tasks with what the network's file says in ``RECIPES["continual"]``.

    ``online`` is one pass over the data in batches of 10.
    """
    name = grammar.parse_nested("models", model).name
    found = Recipe(fresh_optimizer=fresh_optimizer).but(recipe(maker("models", name), "continual"))
    return found.but({"epochs": 1, "batch_size": 10}) if online else found
