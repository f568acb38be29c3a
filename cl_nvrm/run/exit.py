"""Command: what every command that trains does with signals, and with errors a user can cause."""

import signal
from collections.abc import Callable
from typing import NoReturn

from rich.console import Console

from cl_nvrm.errors import UserError

STOPPED, INTERRUPTED = 75, 130


class Stopped(BaseException):
    """SIGTERM: what is finished is stored, the same command goes on from there."""


def exit_code(action: Callable[[Console], int], *, fresh: bool = False) -> int:
    """Return what ``action`` returns, or the exit code of what stopped it, after one line on stderr about that."""
    errors = Console(stderr=True)
    without = ", without --fresh," if fresh else ""
    again = f"finished runs and tasks are kept, the same command{without} goes on from there"
    try:
        signal.signal(signal.SIGTERM, _stop)
        return action(errors)
    except UserError as problem:
        errors.print(f"cl_nvrm: {problem}", soft_wrap=True, highlight=False, markup=False)
        return problem.code
    except KeyboardInterrupt:
        errors.print(f"cl_nvrm: interrupted; {again}", soft_wrap=True)
        return INTERRUPTED
    except Stopped:
        errors.print(f"cl_nvrm: stopped; {again}", soft_wrap=True)
        return STOPPED


def notes(errors: Console) -> Callable[[str], None]:
    """Return what tells the user, in a line on stderr, of something that is no error."""
    return lambda line: errors.print(f"note: {line}", soft_wrap=True, highlight=False, markup=False)


def _stop(*_: object) -> NoReturn:
    raise Stopped
