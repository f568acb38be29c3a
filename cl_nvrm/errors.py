"""The errors a user can cause or must know of, their exit codes, and the frame in which every verb runs.

Every ``python -m cl_nvrm.VERB`` is ``exit_code(lambda: …)`` around what it does, with a ``Parser`` for its flags:

    def main(argv=None):
        return exit_code(lambda: _main(argv))

So all verbs answer alike: an error that a user can cause is one line on stderr, and the exit code is 0 done, 1 a run
failed, 2 usage, or a file that cannot be written, 3 data missing, 4 diverged, 75 stopped, 130 interrupted, 141 nobody
reads the output any more.
"""

import argparse
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import cl_nvrm

if cl_nvrm.__file__ is None:  # a namespace: nothing of cl_nvrm/__init__.py holds
    _clone = Path(cl_nvrm.__path__[0])
    raise ImportError(
        f"Python takes the folder {_clone} for the package cl_nvrm, as {_clone.parent} comes before the installed one "
        f"on its path. Rename that folder, start Python elsewhere, or install it again with 'pip install -e {_clone}'"
    )

LARGEST = 2**63 - 1  # of whole numbers; what libraries take
FAILED, STOPPED, INTERRUPTED, UNREAD = 1, 75, 130, 141


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
    """SIGTERM or SIGHUP arrived."""


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from cl_nvrm import cite

        print(f"cl_nvrm {cite.version()}\n\n{cite.bibtex()}")
        parser.exit()


class Parser(argparse.ArgumentParser):
    """A parser of flags that raises UserError instead of printing several lines and leaving, with ``--version``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_argument(
            "--version",
            action=_Version,
            nargs=0,
            default=argparse.SUPPRESS,
            help="show the version and how to cite it, and exit",
        )

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the command line."""
        raise UserError(message)


def number(kind: type[int] | type[float], least: float) -> Callable[[str], float]:
    """Return a reader of finite numbers of a kind that are at least ``least``, for a flag's ``type``."""
    wanted = f"{'a whole number' if kind is int else 'a finite number'} of at least {least}"

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= (LARGEST if kind is int else sys.float_info.max):
            raise argparse.ArgumentTypeError(f"must be {wanted}, got '{text}'")
        return value

    return read


def exit_code(action: Callable[[], int], *, goes_on: str = "") -> int:
    """Return what ``action`` returns, or the exit code of what stopped it, after one line on stderr about that.

    ``goes_on`` says what a stopped or interrupted command has kept. Signals are handled as before when it is over, and
    a character that the terminal lacks is written as a question mark.
    """
    after = f"; {goes_on}" if goes_on else ""
    try:
        with _raising_stopped(), _any_character():
            _check_backend()
            try:
                return action()
            finally:
                sys.stdout.flush()  # here, where what goes wrong can still be said in a line
    except UserError as problem:
        _say(problem)
        return problem.code
    except BrokenPipeError:
        _write_nowhere(sys.stdout)
        return UNREAD
    except OSError as problem:
        _write_nowhere(sys.stdout)
        place = f"{problem.filename}: " if problem.filename else ""
        _say(f"{place}{problem.strerror or problem}{after}")
        return UserError.code
    except KeyboardInterrupt:
        _say(f"interrupted{after}")
        return INTERRUPTED
    except Stopped:
        _say(f"stopped{after}")
        return STOPPED


def note(line: str) -> None:
    """Tell the user, in a line on stderr, of something that is no error."""
    print(f"note: {line}", file=sys.stderr)


def counted(count: int, what: str) -> str:
    """Return "1 run", "2 runs": a number and what it counts."""
    return f"{count} {what}{'s' * (count != 1)}"


def _say(what: object) -> None:
    with suppress(OSError):  # where nobody hears
        print(f"cl_nvrm: {what}", file=sys.stderr, flush=True)


def _write_nowhere(stream: Any) -> None:
    """Give up what a stream still holds, which Python would try to write once more at its end."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def _any_character() -> Iterator[None]:
    """Let stdout and stderr take any character for the length of a ``with`` block."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if hasattr(stream, "reconfigure")]
    before = [stream.errors for stream in streams]
    for stream in streams:
        stream.reconfigure(errors="replace")
    try:
        yield
    finally:
        for stream, errors in zip(streams, before, strict=True):
            with suppress(OSError):  # it is flushed on the way
                stream.reconfigure(errors=errors)


def _check_backend() -> None:
    """Refuse a matplotlib backend that is none, which would come out as somebody else's error."""
    named = os.environ.get("MPLBACKEND")
    if named:
        try:
            import matplotlib  # noqa: F401
        except ValueError as problem:
            raise UserError(f"MPLBACKEND is '{named}', which matplotlib does not know; unset it") from problem


@contextmanager
def _raising_stopped() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into Stopped for a ``with`` block, where this is the thread that hears signals."""

    def stop(*_: object) -> NoReturn:
        raise Stopped

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    named = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in named if signal.getsignal(number) is not signal.SIG_IGN}
    for number in before:  # what is ignored stays so, as under nohup
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
