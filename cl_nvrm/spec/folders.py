"""Where the files of a kind lie, which of them count, and which of the folders in ``CL_NVRM_PLUGINS`` are none.

A file counts if it defines its kind's function. It is looked at and not imported, so whatever else lies in a folder
does no harm: an editor's leftovers, links to nothing, folders and pipes called ``x.py``, sources in any encoding.
"""

import re
from contextlib import suppress
from pathlib import Path

import cl_nvrm
from cl_nvrm.spec.kinds import KINDS

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
TARGETS = "targets"  # the folder of what ``reproduce`` lists: values, so no kind of function


def files(kind: str) -> dict[str, list[Path]]:
    """Return the files of a kind by name, as users write it; several claim a name in vain."""
    found: dict[str, list[Path]] = {}
    for file in _sources(kind):
        if NAME.fullmatch(file.stem) and _defines(file, KINDS[kind].function):
            found.setdefault(file.stem.replace("_", "-"), []).append(file)
    return found


def named(kind: str, name: str) -> list[Path]:
    """Return the files of one name of a kind, looking into no others."""
    alike = (file for file in _sources(kind) if file.stem.replace("_", "-") == name and NAME.fullmatch(file.stem))
    return [file for file in alike if _defines(file, KINDS[kind].function)]


def places(package: str) -> list[Path]:
    """Return the folders that hold the modules of a kind's package: our own, then users'."""
    kinds = [kind for kind in KINDS if KINDS[kind].package == package]
    return list(dict.fromkeys(folder for kind in kinds for folder in _folders(kind)))


def why_not(kind: str, name: str) -> str:
    """Return what is wrong with a file that has the name of an entry and is none; nothing if there is no such file."""
    for file in _sources(kind):
        if file.stem.replace("_", "-") == name:
            wrong = f"defines no function {KINDS[kind].function}(…)" if file.is_file() else "is no file"
            return f"{file} {wrong}. "
    return ""


def misnamed(kind: str) -> list[str]:
    """Return a line for each file that would be an entry, had it a name that can be written in a command."""
    return [
        f"{file} is left out: a name begins with a letter and has letters, digits, - and _"
        for file in _sources(kind)
        if not NAME.fullmatch(file.stem) and _defines(file, KINDS[kind].function)
    ]


def remarks() -> list[str]:
    """Return a line for each folder of ``CL_NVRM_PLUGINS`` in which nothing can be found: it says why."""
    wanted = dict.fromkeys([*(name for kind in KINDS for name in _names(kind)), TARGETS])
    lines = []
    for place in dict.fromkeys(cl_nvrm.__path__):
        try:
            inside = [path for path in Path(place).iterdir() if path.name in wanted]
            for path in inside:
                list(path.iterdir())
        except OSError as problem:
            lines.append(f"CL_NVRM_PLUGINS: {problem.filename} cannot be read ({problem.strerror})")
            continue
        if not inside:
            lines.append(f"CL_NVRM_PLUGINS: {place} holds no folder {', '.join(wanted)}; name the one they lie in")
    return lines


def _names(kind: str) -> tuple[str, ...]:
    """What the folder of a kind may be called: as its package, or as the kind."""
    return tuple(dict.fromkeys((KINDS[kind].package.rpartition(".")[2], kind)))


def _folders(kind: str) -> list[Path]:
    found = (Path(place, name) for place in cl_nvrm.__path__ for name in _names(kind))
    return list(dict.fromkeys(folder.resolve() for folder in found if _is_folder(folder)))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # in a folder that nobody may look into; ``remarks`` says it
        return False


def _sources(kind: str) -> list[Path]:
    """What looks like a Python file; hidden and private ones (``.x.py``, ``_x.py``) do not count."""
    found = []
    for folder in _folders(kind):
        with suppress(OSError):  # ``remarks`` says it
            found += sorted(path for path in folder.iterdir() if path.suffix == ".py" and path.name[0] not in "._")
    return found


def _defines(file: Path, function: str) -> bool:
    try:
        source = file.read_text(encoding="utf-8-sig", errors="replace") if file.is_file() else ""
    except OSError:  # whoever asks for it is told
        return True
    return re.search(rf"^def {function}\s*[\[(]", source, re.MULTILINE) is not None
