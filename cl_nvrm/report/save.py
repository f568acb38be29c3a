"""Drawing: figures to files."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from cl_nvrm.errors import UserError


def save(drawn: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write each figure as PNG and SVG under its name and return the files; UserError if it cannot.

    The same numbers give the same files: no dates, no random ids.
    """
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context({"svg.hashsalt": "cl_nvrm"}):
            for name, figure in drawn.items():
                for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
                    path = folder / f"{name}.{suffix}"
                    figure.savefig(path, dpi=150, metadata=metadata)
                    paths.append(path)
    except OSError as problem:
        raise UserError(f"Cannot write figures to {folder} ({problem.strerror}); the runs are stored") from problem
    return paths
