import tomllib
from pathlib import Path

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


def test_the_top_level_is_the_agreed_one():
    import subprocess

    out = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    top = {line.partition("/")[0] for line in out.stdout.splitlines()}
    allowed = {"pyproject.toml", "README.md", "cl_nvrm", "benchmarks", "strategies", "tests", "reports"}
    allowed |= {"Makefile", "LICENSE", "CHANGELOG.md", "CITATION.cff", ".ci", ".gitignore"}
    assert top <= allowed
