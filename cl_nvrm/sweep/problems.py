"""Problems: what is wrong in a store: damaged, foreign and orphaned files, and what killed commands left."""

import re
from collections.abc import Iterator
from pathlib import Path

from cl_nvrm.sweep.contents import ID, PLACES, StoredRun, contents
from cl_nvrm.sweep.store import Store


def problems(store: Store) -> dict[Path, str]:
    """Return the files with which something is wrong, and what, in a line each; files of claimed runs are left out."""
    found = dict(_foreign(store))
    for run in contents(store):
        if run.problem:
            found[run.path] = run.problem
        if not run.claimed:
            found |= dict(_of_run(run))
    return found


def _of_run(run: StoredRun) -> Iterator[tuple[Path, str]]:
    for file in run.files:
        if run.status == "orphaned":
            yield file.path, f"orphaned: run {run.id} has no result, and was not begun"
        elif file.kind == "begun":
            yield file.path, "the beginning of a file, left by a command that was killed"
        elif file.kind == "checkpoint" and run.result is not None:
            yield file.path, f"orphaned: run {run.id} is {run.status} and needs no checkpoint"
        elif file.kind in ("checkpoint", "weights") and (wrong := _wrong_tensors(file.path, file.kind, run.id)):
            yield file.path, wrong


def _wrong_tensors(path: Path, kind: str, run_id: str) -> str:
    """What is wrong with a file of tensors, as far as its header and its length tell."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            owner = (file.metadata() or {}).get("run")
    except (OSError, SafetensorError) as problem:
        return f"damaged: {' '.join(str(problem).split())}"
    return f"foreign: it holds the weights of run {owner}" if kind == "weights" and owner != run_id else ""


def _foreign(store: Store) -> Iterator[tuple[Path, str]]:
    """Files in folders of the store with names that no file of a run has; other folders and files are the user's."""
    for path in sorted(store.folder.glob("*.damaged")):
        yield path, "set aside, as it was no result of the run of that name; look at it, and remove it"
    for folder in ("weights", "checkpoints", "events", "perturbed"):
        patterns = [*PLACES[folder], rf"{ID}\.claim"]
        for path in sorted((store.folder / folder).glob("*")):
            if not any(re.fullmatch(pattern, path.name) for pattern in patterns):
                yield path, f"foreign: no file of a run's {folder} has such a name"
