"""The secret that the machines of a run share: from a variable, a file, or the workspace that they share.

It is never given on a command line, where other users of the machine would see it.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path

from shitu_cli.boundary import place_to_write
from shitu_cli.errors import EnvironmentProblem, UsageError
from shitu_cli.files import cannot_write
from shitu_cli.inputs import read_bytes

VARIABLE = "SHITU_MACHINES_SECRET"
LEAST = 16  # characters
_LIMIT = 4096  # bytes of a file
_PAUSE = 0.3  # seconds between two looks


def find_secret(
    named: Path | None,
    shared: Path,
    *,
    creates: bool,
    deadline: float,
    show_line: Callable[[str], None] = lambda text: None,
) -> bytes:
    """Return the secret of the run.

    Args:
        named: A file that holds it, as the user says; None to look elsewhere.
        shared: The file in the workspace, used where neither a file nor the variable names a secret.
        creates: Write `shared` if it is not there: one machine does, the others wait for it.
        deadline: How long to wait, by `time.monotonic`.
        show_line: Shows a line to the user.

    Raises UsageError for a secret that is short or that others can read, EnvironmentProblem if `shared` does not come.
    """
    if named is not None:
        return _checked(_read(named), str(named))
    if text := os.environ.get(VARIABLE):
        return _checked(text.encode("utf-8", "surrogateescape"), VARIABLE)
    if creates:
        _create(shared)
    elif not shared.is_file():
        show_line(f"waiting for {shared}, which machine 0 writes; without a shared disk, copy it from there")
    while not _is_complete(shared):
        if time.monotonic() > deadline:
            raise EnvironmentProblem(
                f"the machines of a run share a secret, and there is none in {shared}",
                hint=f"copy that file from machine 0, with mode 600, or set {VARIABLE} to one text on all",
            )
        time.sleep(_PAUSE)
    return _checked(_read(shared), str(shared))


def _create(path: Path) -> None:
    """Write a new secret that only this user can read, unless there is one."""
    try:
        place_to_write(path.parent).mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{secrets.token_urlsafe(32)}\n")  # the line end says that it is whole
    except FileExistsError:
        return
    except OSError as error:
        raise cannot_write(path, error) from error


def _is_complete(path: Path) -> bool:
    try:
        return path.stat().st_size > LEAST
    except OSError:
        return False


def _read(path: Path) -> bytes:
    data = read_bytes(path, limit=_LIMIT, error=UsageError)
    if os.name != "nt" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise UsageError(f"{path}: other users can read this secret", hint=f"chmod 600 {path}")
    return data


def _checked(secret: bytes, source: str) -> bytes:
    plain = secret.strip()
    if len(plain) < LEAST:
        raise UsageError(
            f"{source}: a secret of {len(plain)} characters, expected at least {LEAST}",
            hint="make one: openssl rand -hex 32",
        )
    return plain
