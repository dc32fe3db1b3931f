"""Open files that somebody else wrote: regular files only, bounded, and with errors that name the file.

A path may lead to a pipe (which waits forever), a device (which never ends), a folder, a loop of links, or far more
bytes than memory holds. Every reader of such files opens them here.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import BinaryIO

from shitu_cli.errors import MACHINE_HINTS, DataError, EnvironmentProblem, Message, ShituError

MIB = 1 << 20
MAX_TEXT = 1024 * MIB  # bytes of a list or table
EXPANDS = 64  # times its size: a packed file that grows to more was made to fill the memory
StrPath = str | os.PathLike[str]
# What a path can be instead of a regular file.
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# Errors of the path itself; all others come from the machine: permissions, a failing disk, a lack of memory.
_PATH_ERRORS = {
    errno.ENOENT: "No such file or directory",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.ELOOP: "its links form a loop",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EISDIR: "a folder",
    errno.ENXIO: "not a regular file",
}


def open_input(
    path: StrPath,
    *,
    limit: int | None = None,
    error: type[ShituError] = DataError,
    hint: Message | None = None,
) -> BinaryIO:
    """Open a regular file for buffered reading, without ever waiting for another process.

    Args:
        path: The file; links are followed.
        limit: The largest size in bytes that is accepted, None for any.
        error: The class to raise for whatever is wrong with the path or the size.
        hint: The way out to show with that error.

    Raises `error` if the file does not exist, is not a regular file or is too large, EnvironmentProblem if the system
    refuses (no permission, a failing disk).
    """
    try:
        # A device is refused before it is opened: opening alone can act on it.
        _require_regular(os.stat(path).st_mode, path, error, hint)
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as problem:
        raise path_problem(path, problem, error=error, hint=hint) from None
    try:
        status = os.fstat(descriptor)
        _require_regular(status.st_mode, path, error, hint)
        if limit is not None and status.st_size > limit:
            raise _too_large(path, limit, error, hint)
    except BaseException:
        os.close(descriptor)
        raise
    return io.BufferedReader(io.FileIO(descriptor))


def kind_of(mode: int) -> str | None:
    """Return what a path of this mode is instead of a regular file, None for a regular file."""
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "something else")


def is_input(path: StrPath) -> bool:
    """Return whether `path` is a regular file; unlike `Path.is_file` never raises."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def read_bytes(
    path: StrPath,
    *,
    limit: int = MAX_TEXT,
    error: type[ShituError] = DataError,
    hint: Message | None = None,
) -> bytes:
    """Read a whole file of at most `limit` bytes; errors are those of `open_input`."""
    with open_input(path, limit=limit, error=error, hint=hint) as file:
        try:
            # Some regular files (in /proc, or growing ones) hold more than their size says.
            size = min(limit, os.fstat(file.fileno()).st_size)
            data = file.read(size + 1)
            if len(data) > size:
                data += file.read(limit + 1 - len(data))
        except (OSError, ValueError) as problem:
            raise path_problem(path, problem, error=error, hint=hint) from None
    if len(data) > limit:
        raise _too_large(path, limit, error, hint)
    return data


def read_text(
    path: StrPath,
    *,
    limit: int = MAX_TEXT,
    error: type[ShituError] = DataError,
    hint: Message | None = None,
    keep_bytes: bool = False,
) -> str:
    """Read UTF-8 text, without its byte order mark; line ends stay as they are.

    Bytes that are not UTF-8 are an error that names their line; with `keep_bytes` they become lone surrogates, as in
    Python's file names. Other errors are those of `open_input`.
    """
    data = read_bytes(path, limit=limit, error=error, hint=hint)
    return decode_text(data, path, error=error, hint=hint, keep_bytes=keep_bytes)


def decode_text(
    data: bytes,
    source: StrPath,
    *,
    line: int = 1,
    error: type[ShituError] = DataError,
    hint: Message | None = None,
    keep_bytes: bool = False,
) -> str:
    """Decode the bytes of `source` from a line on as `read_text` does."""
    try:
        return data.decode("utf-8-sig" if line == 1 else "utf-8", "surrogateescape" if keep_bytes else "strict")
    except UnicodeDecodeError as problem:
        line += problem.object.count(b"\n", 0, problem.start)
        raise error(
            f"{os.fspath(source)}:{line}: byte 0x{problem.object[problem.start]:02x} is not UTF-8 text",
            hint=hint or "save the file as UTF-8",
        ) from None


def path_problem(
    path: StrPath,
    problem: OSError | ValueError,
    *,
    error: type[ShituError] = DataError,
    hint: Message | None = None,
) -> ShituError:
    """Return the error for a system error of a path: `error`, or EnvironmentProblem if the machine refused."""
    name = os.fspath(path)
    if not name:
        return error("cannot read an empty path", hint=hint)
    if not isinstance(problem, OSError):  # Python refuses NUL and characters that no file name can hold
        return error(f"cannot read {name!r}: the path contains a character that no file name can have", hint=hint)
    if problem.errno in _PATH_ERRORS:
        shown = name if len(name) <= 300 else f"{name[:200]}..."
        return error(f"cannot read {shown}: {_PATH_ERRORS[problem.errno]}", hint=hint)
    ways_out = {**MACHINE_HINTS, errno.EACCES: "check the permissions of the file and of the folders above it"}
    return EnvironmentProblem(
        f"cannot read {name}: {problem.strerror or problem}", hint=ways_out.get(problem.errno or 0, hint)
    )


def _require_regular(mode: int, path: StrPath, error: type[ShituError], hint: Message | None) -> None:
    kind = kind_of(mode)
    if kind is not None:
        raise error(f"cannot read {os.fspath(path)}: it is {kind}, not a regular file", hint=hint)


def _too_large(path: StrPath, limit: int, error: type[ShituError], hint: Message | None) -> ShituError:
    size = f"{limit / MIB:.0f} MiB" if limit >= MIB else f"{limit} bytes"
    return error(f"{os.fspath(path)} is too large: such a file may have at most {size}", hint=hint)
