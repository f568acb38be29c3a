import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cl_nvrm import cite

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_package_list_is_the_tree():
    folders = {p.parent for p in (ROOT / "cl_nvrm").rglob("*.py")}
    ours = {".".join(folder.relative_to(ROOT).parts) for folder in folders if "__pycache__" not in folder.parts}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == ours | {"cl_nvrm.strategies", "cl_nvrm.benchmarks"}


def test_strategies_and_benchmarks_are_namespace_packages_without_code_of_their_own():
    for folder in ("strategies", "benchmarks"):
        assert not (ROOT / folder / "__init__.py").exists()
        assert PROJECT["tool"]["setuptools"]["package-dir"][f"cl_nvrm.{folder}"] == folder


def test_torch_and_torchvision_cannot_be_a_mismatched_pair():
    bounds = {d.split(">=")[0]: d.split(">=")[1] for d in PROJECT["project"]["dependencies"] if d.startswith("torch")}
    assert tuple(map(int, bounds["torch"].split("."))) > (2, 13)
    assert "torchvision" in bounds


def test_there_is_one_version_and_one_way_to_cite(monkeypatch):
    latest = PROJECT["project"]["version"]
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == latest
    assert re.search(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1] == latest
    monkeypatch.setattr(cite, "version", lambda: latest)
    software = cite.bibtex().split("\n\n")[0]
    assert f"```bibtex\n{software}\n```" in (ROOT / "README.md").read_text()


def test_the_top_level_is_the_agreed_one():
    out = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    top = {line.partition("/")[0] for line in out.stdout.splitlines()}
    allowed = {"pyproject.toml", "README.md", "cl_nvrm", "benchmarks", "strategies", "tests", "reports"}
    allowed |= {"Makefile", "LICENSE", "CHANGELOG.md", "CITATION.cff", ".ci", ".gitignore"}
    assert top <= allowed


# What setuptools puts on sys.meta_path for an editable install; Python asks it after the folders on its path.
HOOK = """
import sys
from importlib.machinery import PathFinder

class Hook:
    def find_spec(name, path=None, target=None):
        if name.rpartition(".")[0] in ("", "cl_nvrm"):
            return PathFinder.find_spec(name, [ROOT if name == "cl_nvrm" else ROOT + "/cl_nvrm"])
"""


def beside_a_clone(tmp_path, code):
    """Run ``code`` where the clone lies in a folder called cl_nvrm; -S leaves out whatever is installed."""
    (tmp_path / "cl_nvrm").symlink_to(ROOT)
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, env={})
    return done.stdout, done.stderr


@pytest.mark.parametrize("module", ["errors", "spec.catalog", "run.flags"])
def test_a_clone_taken_for_the_package_says_what_to_do(tmp_path, module):
    code = f"ROOT = {str(ROOT)!r}{HOOK}sys.meta_path.append(Hook)\nimport cl_nvrm.{module}"
    _, err = beside_a_clone(tmp_path, code)
    last = err.splitlines()[-1]
    assert f"Python takes the folder {tmp_path / 'cl_nvrm'} for the package" in last and "Rename that folder" in last


def test_nor_is_it_imported_by_another_name(tmp_path):
    _, err = beside_a_clone(tmp_path, "import cl_nvrm.cl_nvrm")
    assert "cl_nvrm cannot be imported as cl_nvrm.cl_nvrm; install it" in err.splitlines()[-1]


def test_an_editable_install_is_a_path_entry_which_wins_over_the_folder(tmp_path):
    assert PROJECT["tool"]["distutils"]["editable_wheel"] == {"mode": "compat"}
    code = f"import sys; sys.path.append({str(ROOT)!r}); import cl_nvrm.errors; print(cl_nvrm.__file__)"
    out, err = beside_a_clone(tmp_path, code)
    assert Path(out.strip()) == ROOT / "cl_nvrm" / "__init__.py", err
