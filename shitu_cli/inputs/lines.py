"""Read text that somebody else wrote line by line: memory for one line, not for the file, and no endless lines.

A file of zeros takes no room on a disk and no care to make: of one line, it would fill the memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from shitu_cli.errors import DataError, Message, ShituError
from shitu_cli.inputs.files import MAX_TEXT, MIB, StrPath, decode_text, open_input, path_problem


def read_lines(
    path: StrPath,
    *,
    limit: int = MAX_TEXT,
    error: type[ShituError] = DataError,
    hint: Message | None = None,
    keep_bytes: bool = False,
    digest: Any = None,
) -> Iterator[str]:
    """Yield the lines of a UTF-8 file of at most `limit` bytes without their line feeds, the last one unless empty.

    `digest` is a hash that receives all bytes. Raises `error` with file and line for bytes that are no UTF-8, which
    `keep_bytes` turns into lone surrogates, and for a line of more than a MiB; other errors are those of `open_input`.
    """
    number = 1
    with open_input(path, limit=limit, error=error, hint=hint) as file:
        for block in byte_lines(file, path, error=error, hint=hint, digest=digest):
            text = decode_text(block, path, line=number, error=error, hint=hint, keep_bytes=keep_bytes)
            lines = text.split("\n")
            yield from lines
            number += len(lines)


def byte_lines(
    file: BinaryIO,
    name: StrPath,
    *,
    longest: int = MIB,
    error: type[ShituError] = DataError,
    hint: Message | None = None,
    digest: Any = None,
) -> Iterator[bytes]:
    """Yield the lines of an open file in blocks of about a MiB, each without the line feed behind its last line.

    A line has at most `longest` bytes, which are a MiB or more; other arguments and errors are those of `read_lines`.
    """
    begun, at = b"", 0  # the line that the block before ends in, and where it begins
    try:
        while block := file.read(MIB):
            if digest is not None:
                digest.update(block)
            end = block.rfind(b"\n")
            if len(begun) + (len(block) if end < 0 else block.find(b"\n")) > longest:
                where = f"{os.fspath(name)}:{_line_at(file, at)}"
                raise error(f"{where}: the line is too long: it may have at most {longest // MIB} MiB", hint=hint)
            if end < 0:
                begun += block
                continue
            whole = begun + block[:end]
            yield whole
            begun, at = block[end + 1 :], at + len(whole) + 1
    except OSError as problem:
        raise path_problem(name, problem, error=error, hint=hint) from None
    if begun:
        yield begun


def _line_at(file: BinaryIO, end: int) -> int:
    """Return the number of the line that begins at a place."""
    file.seek(0)
    return 1 + sum(file.read(min(MIB, end - start)).count(b"\n") for start in range(0, end, MIB))


def count_lines(path: StrPath) -> int:
    """Return how many lines a list or table has; errors are those of `open_input`."""
    count, last = 0, b""
    with open_input(path, limit=MAX_TEXT) as file:
        while block := file.read(MIB):
            count += block.count(b"\n")
            last = block[-1:]
    return count + (last not in (b"", b"\n"))


def same_content(first: StrPath, second: StrPath) -> bool:
    """Return whether two lists or tables are equal byte for byte; errors are those of `open_input`."""
    with open_input(first, limit=MAX_TEXT) as one, open_input(second, limit=MAX_TEXT) as other:
        if os.fstat(one.fileno()).st_size != os.fstat(other.fileno()).st_size:
            return False
        while block := one.read(MIB):
            if block != other.read(MIB):
                return False
        return not other.read(1)
