"""The map of the layers, and that the code keeps to it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# module or package of cl_nvrm -> what it may import of cl_nvrm (itself aside)
MAY_IMPORT = {
    "cite": set(),
    "errors": {"cite"},
    "spec": {"errors"},
    "noise": {"errors"},
    "benchmark": set(),
    "continual": {"spec", "benchmark", "data", "models", "generalization"},
    "models": set(),
    "generalization": {"errors", "spec", "benchmark", "data"},
    "deferred": set(),
    "optim": {"deferred", "noise"},
    "data": {"errors", "spec"},
    "plugins": {"errors", "spec", "noise", "benchmark", "analysis"},
    "training": {"deferred", "errors", "spec", "benchmark", "data", "analysis", "plugins"},
    "sweep": {"errors", "spec", "benchmark", "analysis", "training"},
    "analysis": {"errors", "spec", "noise"},
    "perturb": {"errors", "spec", "noise", "training", "sweep"},
    "study": {"errors", "spec", "noise", "training", "sweep", "analysis", "report", "run"},
    "reproduce": {"errors", "spec", "analysis", "sweep", "report", "run"},
    "run": {"deferred", "errors", "spec", "benchmark", "data", "analysis", "training", "sweep", "report"},
    "calibrate": {"errors", "spec", "benchmark", "noise", "plugins", "training", "run"},
    "report": {"errors", "spec", "sweep", "analysis"},
    "runs": {"errors", "spec", "analysis", "sweep", "report"},
    "bench": {"errors", "spec", "benchmark", "data", "plugins", "training"},
    "__main__": {"cite", "errors"},  # names its verbs in texts
    "__init__": {"deferred", "errors", "run", "spec"},
}  # fmt: skip
# room -> its modules, each of which may import those before it
ORDER = {
    "training": "device replacing packing provenance precision schedule weights evaluate record checkpoint loop build "
    "start train stack",
    "sweep": "run_log claim store contents filters job processes sweep tune steps estimate track upkeep problems "
    "probes",
}
PLUGIN_FOLDERS = {
    "strategies": {"noise", "plugins"},
    "benchmarks": {"spec", "benchmark", "data", "models", "generalization", "continual"},
}
# a third-party package -> the only rooms, or modules of a room, that may import it
ONLY_IN = {
    "avalanche": {"plugins", "training", "benchmark", "continual", "strategies", "benchmarks", "bench"},
    "pandas": {"report/figures", "report/frames", "report/lines", "run/results", "runs/export", "study"},
    "seaborn": {"report/figures", "report/lines", "report/tuning", "study"},
    "matplotlib": {"report", "study", "reproduce", "errors", "run/results"},
    "jinja2": {"report"},
    "joblib": {"sweep/sweep"},
    "multiprocessing": {"sweep/processes"},
    "optuna": {"sweep/tune"},
    "wandb": {"sweep/track"},
    "numba": {"noise/kernels"},
    "llvmlite": {"noise/kernels"},
    "rich": {"report/terminal", "run", "runs", "bench", "calibrate", "perturb", "study", "reproduce"},
}
FILES = [p for folder in ("cl_nvrm", *PLUGIN_FOLDERS) for p in sorted((ROOT / folder).rglob("*.py"))]


def place(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] in PLUGIN_FOLDERS else parts[1]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            parts = node.module.split(".")
            if node.module == "cl_nvrm" or (len(parts) == 2 and parts[1] in ORDER):  # names its modules
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path):
    here = place(path)
    allowed = PLUGIN_FOLDERS[here] if here in PLUGIN_FOLDERS else MAY_IMPORT[here]
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "cl_nvrm" and rest:
            target = rest.partition(".")[0]
            assert target == here or target in allowed, f"{here} may not import {target}"
        elif top in ONLY_IN:
            inside = "/".join(path.relative_to(ROOT).with_suffix("").parts[1:3])
            assert {here, inside} & ONLY_IN[top], f"{here} may not import {top}"


def test_the_map_allows_no_more_than_is_used():
    used = {room: set() for room in MAY_IMPORT}
    for path in FILES:
        if place(path) in MAY_IMPORT:
            used[place(path)] |= {name.split(".")[1] for name in imports(path) if name.startswith("cl_nvrm.")}
    assert {room: targets - {room} for room, targets in used.items()} == MAY_IMPORT


@pytest.mark.parametrize("room", ORDER)
def test_modules_of_a_room_import_those_before_them(room):
    order = ORDER[room].split()
    assert sorted(order) == sorted(p.stem for p in (ROOT / "cl_nvrm" / room).glob("*.py") if p.stem != "__init__")
    for number, module in enumerate(order):
        for name in imports(ROOT / "cl_nvrm" / room / f"{module}.py"):
            if name.startswith(f"cl_nvrm.{room}"):
                assert name.split(".")[2] in order[:number], f"{room}/{module} may not import {name}"


def test_no_room_has_a_circle_inside():
    for room in MAY_IMPORT:
        places = sorted((ROOT / "cl_nvrm" / room).rglob("*.py"))
        modules = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in places if p.stem != "__init__"}
        needs = {}
        for name, path in modules.items():
            asked = {other for found in imports(path) for other in (found, found.rpartition(".")[0])}
            needs[name] = (asked & modules.keys()) - {name}
        done: set[str] = set()
        while len(done) < len(needs):
            free = {name for name, asked in needs.items() if name not in done and asked <= done}
            assert free, f"a circle among {sorted(set(needs) - done)}"
            done |= free


def test_the_map_has_no_circle():
    done: set[str] = set()
    while len(done) < len(MAY_IMPORT):
        free = {name for name, needs in MAY_IMPORT.items() if name not in done and needs <= done}
        assert free, f"a circle among {set(MAY_IMPORT) - done}"
        done |= free


def test_nobody_imports_strategies_or_benchmarks():
    for path in FILES:
        for name in imports(path):
            assert not name.startswith(("cl_nvrm.strategies", "cl_nvrm.benchmarks", "strategies", "benchmarks."))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_small_and_well_named(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
    assert path.stem not in {"utils", "util", "helpers", "common", "base", "manager", "misc"}


def test_nothing_is_unpickled_from_disk():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert "torch.load(" not in text and "pickle" not in text.replace("unpickled", ""), path
