"""The page on what a plug-in may offer and find is true and whole."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ast.parse((ROOT / "cl_nvrm/plugins/contract.py").read_text(encoding="utf-8"))
CLASSES = {node.name: node for node in PAGE.body if isinstance(node, ast.ClassDef)}
README = (ROOT / "strategies/README.md").read_text(encoding="utf-8")
# what code calls the thing it asks -> the classes of the page that say what it may have
ASKED = {"plugin": {"Plugin"}, "made": {"Plugin"}, "strategy": {"Strategy"}, "model": {"Model"}, "network": {"Model"}}
INTERNAL = {"network"}  # how a wrapper holds what it wraps


def attributes(name):
    for node in CLASSES[name].body:
        if isinstance(node, ast.AnnAssign):
            yield node.target.id
        elif isinstance(node, ast.FunctionDef):
            yield node.name


EVERY = [(name, attribute) for name in CLASSES for attribute in attributes(name)]


@pytest.mark.parametrize(("name", "attribute"), EVERY)
def test_every_attribute_is_in_the_readme(name, attribute):
    section = README[README.index("# What a plug-in may offer, and find") :]
    assert re.search(rf"`{attribute}`", section)


@pytest.mark.parametrize(("name", "attribute"), EVERY)
def test_every_attribute_is_used_or_offered_by_some_code(name, attribute):
    files = [p for p in (ROOT / "cl_nvrm").rglob("*.py") if p.name != "contract.py"]
    assert any(re.search(rf"\b{attribute}\b", p.read_text(encoding="utf-8")) for p in files)


def asked():
    for path in (ROOT / "cl_nvrm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("getattr", "hasattr")
                and isinstance(node.args[0], ast.Name)
                and node.args[0].id in ASKED
                and isinstance(node.args[1], ast.Constant)
            ):
                yield path.relative_to(ROOT), node.args[0].id, node.args[1].value


def test_what_code_asks_of_a_plug_in_a_model_or_a_strategy_is_on_the_page():
    found = list(asked())
    assert len(found) >= 8
    for path, thing, attribute in found:
        known = {one for name in ASKED[thing] for one in attributes(name)} | INTERNAL
        assert attribute in known, f"{path} asks {thing} for '{attribute}'"


def test_what_code_asks_of_a_module_is_on_the_page():
    for path in (ROOT / "cl_nvrm").rglob("*.py"):
        for name in re.findall(r'getattr\(inspect\.getmodule\(\w+\), "(\w+)"', path.read_text(encoding="utf-8")):
            assert name in set(attributes("Module")), f"{path} asks a module for {name}"
