import subprocess
import sys

import pytest

from cl_nvrm.errors import UserError
from cl_nvrm.spec import catalog

PLUGIN = '"""A stranger\'s strategy."""\n\n\ndef plugin(*, strength: float = 0.5) -> None: ...\n'


@pytest.fixture
def strangers(plug_in):
    """A folder of somebody else's, as CL_NVRM_PLUGINS would add it."""
    return plug_in("strategies/notes.txt", "").parent


@pytest.mark.parametrize("kind", catalog.KINDS)
def test_every_entry_has_a_summary_and_plain_parameters(kind):
    assert catalog.names(kind)
    for name in catalog.names(kind):
        made = catalog.maker(kind, name)
        assert catalog.summary(made).endswith((".", ")"))
        for parameter in catalog.parameters(made).values():
            assert isinstance(parameter.default, bool | int | float | str)


def test_a_file_in_a_named_folder_is_a_strategy(strangers):
    (strangers / "my_method.py").write_text(PLUGIN)
    (strangers / "notes.py").write_text("x = 1\n")
    assert "my-method" in catalog.names("strategies") and "notes" not in catalog.names("strategies")
    for name in ("my-method", "my_method"):
        assert list(catalog.parameters(catalog.maker("strategies", name))) == ["strength"]


BROKEN = {
    "syntax": ("def plugin(:\n", "SyntaxError"),
    "import": ("import nosuchmodule\n\n\ndef plugin(): ...\n", "ModuleNotFoundError: No module named 'nosuchmodule'"),
    "default": ("def plugin(*, a=None): ...\n", "'a' of 'broken' in strategies/ needs a default"),
}


@pytest.mark.parametrize(("text", "says"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_named_and_hides_no_other(strangers, cli, text, says):
    (strangers / "broken.py").write_text(text)
    code, _, err = cli("--benchmark", "toy", "--strategy", "broken")
    assert code == 2 and says in err and "broken" in err and "Traceback" not in err
    code, out, _ = cli("--list", "strategies")
    assert code == 0 and says in out and "ewc: " in out
    code, _, err = cli("--benchmark", "toy", "--foo", "3")
    assert code == 2 and "No flag --foo" in err


def test_annotations_kept_as_texts_still_give_the_choices(strangers):
    from cl_nvrm.spec import grammar

    (strangers / "later.py").write_text(
        "from __future__ import annotations\nfrom typing import Literal\n\n\n"
        "def plugin(*, a: Literal['x', 'y'] = 'x') -> None: ...\n"
    )
    with pytest.raises(UserError, match="one of x, y, got 'z'"):
        grammar.parse_sum("later:a=z")


def test_two_files_of_one_name_are_refused(strangers):
    (strangers / "ewc.py").write_text(PLUGIN)
    with pytest.raises(UserError, match="claimed more than once"):
        catalog.maker("strategies", "ewc")


@pytest.mark.parametrize("backport", [False, True])
def test_an_entry_point_of_another_distribution_is_a_strategy(monkeypatch, tmp_path, backport):
    if backport:
        pytest.importorskip("importlib_metadata")  # importing it makes entry points its own
    (tmp_path / "theirs.py").write_text(PLUGIN)
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cl_nvrm.strategies]\ntheirs = theirs:plugin\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "theirs" in catalog.names("strategies")
    assert catalog.summary(catalog.maker("strategies", "theirs")) == "A stranger's strategy."


def test_names_are_known_without_importing_torch():
    code = "import sys; from cl_nvrm.run.flags import _parser; _parser().format_help(); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"


def test_the_folder_variable_is_read(tmp_path):
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "via_variable.py").write_text(PLUGIN)
    code = "from cl_nvrm.spec import catalog; print(catalog.names('strategies'))"
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"CL_NVRM_PLUGINS": str(tmp_path), "PATH": ""},
    ).stdout
    assert "via-variable" in out and "ewc" in out


def test_entry_points_are_read_once(monkeypatch):
    catalog.names("strategies")
    monkeypatch.setattr(catalog, "entry_points", lambda **_: pytest.fail("read again"))
    assert "ewc" in catalog.names("strategies")
