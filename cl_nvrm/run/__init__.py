"""``python -m cl_nvrm.run``: a command line to specs, specs through a sweep, results to tables and figures."""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    from cl_nvrm.run.__main__ import main as command  # what imports only this package stays light

    return command(argv)
