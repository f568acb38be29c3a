"""Provenance: what made a result."""

import platform
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any


@cache
def provenance() -> dict[str, Any]:
    """Return what made a result: packages, Python, platform, and the commit if this is a checkout."""
    versions = {}
    for package in ("cl_nvrm", "torch", "torchvision", "avalanche-lib", "numpy"):
        with suppress(ModuleNotFoundError):
            versions[package] = version(package)
    return {
        "versions": versions,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        **_commit(),
    }


def peak_bytes() -> int | None:
    """Return the most memory this process has had so far, in bytes; None where the system does not tell."""
    try:
        import resource
    except ModuleNotFoundError:  # not on this system
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _commit() -> dict[str, Any]:
    root = Path(__file__).resolve().parent.parent.parent
    if not (root / "pyproject.toml").is_file():
        return {}

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout

    try:
        return {"commit": git("rev-parse", "HEAD").strip(), "dirty": bool(git("status", "--porcelain", "-uno").strip())}
    except (OSError, subprocess.CalledProcessError):
        return {}
