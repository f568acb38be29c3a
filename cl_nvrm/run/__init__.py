"""Train strategies on a benchmark: ``python -m cl_nvrm.run`` from a shell, ``cl_nvrm.run(…)`` from Python.

    import cl_nvrm as cl

    results = cl.run("ewc+nvrm", benchmark="permuted-mnist", trials=10, lambda_=100, lr=[3e-4, 1e-3])
    results.table(), results.compare(), results.plot()

Keywords are the flags of the command, with the same meaning and defaults, and the parameters of the strategies and the
benchmark; a list is a grid. ``run.api.run`` says more, and cl_nvrm/PYTHON.md has examples.
"""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    from cl_nvrm.run.__main__ import main as command  # what imports only this package stays light

    return command(argv)
