"""All verbs run in one frame: errors in one line, the documented exit codes, signals as they were before."""

import signal
import subprocess
import sys
import threading
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version

import pytest

from cl_nvrm import cite
from cl_nvrm.__main__ import VERBS
from cl_nvrm.__main__ import main as cl_nvrm_main
from cl_nvrm.errors import MissingData, Stopped, UserError, exit_code


def raising(problem):
    def action():
        raise problem

    return action


@pytest.mark.parametrize(
    ("problem", "code", "says"),
    [
        (UserError("write this"), 2, "cl_nvrm: write this"),
        (MissingData("not there"), 3, "cl_nvrm: not there"),
        (KeyboardInterrupt(), 130, "cl_nvrm: interrupted; all is kept"),
        (Stopped(), 75, "cl_nvrm: stopped; all is kept"),
    ],
)
def test_what_a_user_can_cause_is_one_line_and_a_code(problem, code, says, capsys):
    assert exit_code(raising(problem), goes_on="all is kept") == code
    assert capsys.readouterr().err == says + "\n"


def test_an_error_of_ours_is_not_hidden():
    with pytest.raises(KeyError):
        exit_code(raising(KeyError("a bug")))


def test_a_termination_stops_the_action_and_the_handler_before_is_back():
    before = signal.getsignal(signal.SIGTERM)
    assert exit_code(lambda: signal.raise_signal(signal.SIGTERM) or 0) == 75
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_verb_may_be_called_from_a_thread_that_hears_no_signals():
    codes = []
    thread = threading.Thread(target=lambda: codes.append(exit_code(lambda: 0)))
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_every_verb_says_which_version_it_is_and_how_to_cite_it(verb, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cl-nvrm", *([verb] if verb else []), "--version"])
    with suppress(SystemExit):
        assert cl_nvrm_main() == 0
    out = capsys.readouterr().out
    assert out.startswith(f"cl_nvrm {version('cl_nvrm')}\n") and cite.bibtex() in out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_refuses_a_flag_it_does_not_know_in_one_line(verb, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert import_module(VERBS[verb]).main(["--nonsense"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("cl_nvrm: ") and len(err.splitlines()) == 1 and "--nonsense" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["run", "report", "runs", "perturb", "study", "bench"])
def test_help_needs_no_torch(verb):
    code = (
        "import sys; from importlib import import_module\n"
        f"try: import_module({VERBS[verb]!r}).main(['--help'])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "False"
