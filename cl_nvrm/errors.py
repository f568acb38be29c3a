"""The errors a user can cause or must know of, their exit codes, and the frame in which every verb runs.

Every ``python -m cl_nvrm.VERB`` is ``exit_code(lambda: …)`` around what it does, with a ``Parser`` for its flags:

    def main(argv=None):
        return exit_code(lambda: _main(argv))

So all verbs answer alike: an error that a user can cause is one line on stderr, and the exit code is 0 done, 1 a run
failed, 2 usage, 3 data missing, 4 diverged, 75 stopped, 130 interrupted.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import cl_nvrm

if cl_nvrm.__file__ is None:  # a namespace: nothing of cl_nvrm/__init__.py holds
    _clone = Path(cl_nvrm.__path__[0])
    raise ImportError(
        f"Python takes the folder {_clone} for the package cl_nvrm, as {_clone.parent} comes before the installed one "
        f"on its path. Rename that folder, start Python elsewhere, or install it again with 'pip install -e {_clone}'"
    )

FAILED, STOPPED, INTERRUPTED = 1, 75, 130


class UserError(Exception):
    """What was asked for cannot be done as written; the text is one line that says what to write instead."""

    code = 2


class MissingData(UserError):
    """A data set is not there, or not what its name says; the text names the file or where it was looked for."""

    code = 3


class Diverged(RuntimeError):
    """The training loss stopped being a finite number; what was measured before is kept."""

    code = 4


class Stopped(BaseException):
    """SIGTERM arrived."""


class Parser(argparse.ArgumentParser):
    """A parser of flags that raises UserError instead of printing several lines and leaving."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the command line."""
        raise UserError(message)


def exit_code(action: Callable[[], int], *, goes_on: str = "") -> int:
    """Return what ``action`` returns, or the exit code of what stopped it, after one line on stderr about that.

    ``goes_on`` says what a stopped or interrupted command has kept. Signals are handled as before when it is over.
    """
    after = f"; {goes_on}" if goes_on else ""
    try:
        with _raising_stopped():
            return action()
    except UserError as problem:
        print(f"cl_nvrm: {problem}", file=sys.stderr)
        return problem.code
    except KeyboardInterrupt:
        print(f"cl_nvrm: interrupted{after}", file=sys.stderr)
        return INTERRUPTED
    except Stopped:
        print(f"cl_nvrm: stopped{after}", file=sys.stderr)
        return STOPPED


def note(line: str) -> None:
    """Tell the user, in a line on stderr, of something that is no error."""
    print(f"note: {line}", file=sys.stderr)


@contextmanager
def _raising_stopped() -> Iterator[None]:
    """Turn SIGTERM into Stopped for the length of a ``with`` block, where this is the thread that hears signals."""

    def stop(*_: object) -> NoReturn:
        raise Stopped

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
