"""What can go wrong for a user, each kind with the exit code of the process."""

from __future__ import annotations

import errno
from collections.abc import Sequence

# What a user can do when the system refuses with such a number.
MACHINE_HINTS = {
    errno.ENOSPC: "free some space on that disk, then run the command again",
    errno.EDQUOT: "your quota on that disk is used up: free some space, then run the command again",
    errno.EROFS: "that file system is read-only: work elsewhere with -w",
    errno.EACCES: "check the permissions there, or work elsewhere with -w",
}


class ShituError(Exception):
    """A user's mistake or a failing environment: shown as one line, its details and a hint, without traceback.

    `message` says what and where, `details` lists further problems of the same kind (all at once, not the
    first one), `hint` says the way out, preferably a command to copy.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = list(details)


class UsageError(ShituError):
    """The command line asks for something that does not exist or does not go together."""

    exit_code = 2


class DataError(ShituError):
    """Images, lists, weights or indexes are missing, damaged or contradict each other."""

    exit_code = 3


class ConfigError(ShituError):
    """The configuration is wrong; `details` holds every problem as `file:line: key: got, expected`."""

    exit_code = 4


class EnvironmentProblem(ShituError):
    """The machine says no: disk full, no permission, a missing optional package, no such device."""

    exit_code = 5


class TrainingError(ShituError):
    """Training cannot go on (loss is not finite, a process died)."""

    exit_code = 6
