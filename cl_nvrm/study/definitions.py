"""What a study is: what is trained for it, as command lines of ``cl_nvrm.run`` by scale, and the figure that shows it.

``paper`` is a paper's own recipe, on a GPU; ``small`` shows the effect within hours on four cores; ``smoke`` only runs
through.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

SCALES = ("paper", "small", "smoke")


@dataclass(frozen=True)
class Part:
    """Runs that share a figure, named ``panel``: the words of one command; ``--frontier`` names another's panel."""

    panel: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """A study: what it asks, what is drawn (``module.function`` below ``cl_nvrm.study``), and its parts by scale.

    Without a figure of its own it shows what the main command shows: it has one part a scale, runs and figures lie in
    the folder ``store`` below ``reports/studies`` (at scale small), with the report's page and ``tables`` if so asked.
    With scales of noise in ``perturbed`` trained weights are asked how they stand them. A study without parts computes
    what it shows by itself: its figure is a function of the scale, and so are its ``numbers``, by name.
    """

    asks: str
    figure: str = ""
    parts: dict[str, tuple[Part, ...]] = field(default_factory=dict)
    perturbed: tuple[float, ...] = ()
    numbers: str = ""
    store: str = ""
    tables: bool = False

    def function(self, name: str) -> Callable[..., Any]:
        """Return a function named ``module.function``; figures need libraries that planning does not."""
        module, _, function = name.rpartition(".")
        found: Callable[..., Any] = getattr(import_module(f"cl_nvrm.study.{module}"), function)
        return found


def part(panel: str, setup: str, *strategies: str) -> Part:
    """Return a part from the words of a command and the strategies it compares."""
    return Part(panel, (*setup.split(), *(word for text in strategies for word in ("--strategy", text))))
