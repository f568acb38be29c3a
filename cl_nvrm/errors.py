"""The errors a user can cause or must know of; each carries the exit code of the command line."""


class UserError(Exception):
    """What was asked for cannot be done as written; the text is one line that says what to write instead."""

    code = 2


class MissingData(UserError):
    """A data set is not there, or not what its name says; the text names the file or where it was looked for."""

    code = 3


class Diverged(RuntimeError):
    """The training loss stopped being a finite number; what was measured before is kept."""

    code = 4
