"""A kind of files that strangers write: a good one, how the program reads it, and what attacks its reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

BLANKS = b" " * 20_000
BOMB = b"a: &a [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (letter, letter, b", ".join([b"*%c" % (letter - 1)] * 10)) for letter in range(98, 106)
)


class Kind(NamedTuple):
    """`lay_out` writes a good file and what it needs into a folder, and returns its path; `read` reads it.

    `hostile` are contents of the kind's own, some made from the good one; `harmless` names those, also of
    tests/hostile.py, that are no error. `cases` says how many mutations are cheap.
    """

    lay_out: Callable[[Path], Path]
    read: Callable[[Path], object]
    hostile: dict[str, bytes | Callable[[bytes], bytes]]
    harmless: frozenset[str] = frozenset()
    cases: int = 200


def file(name: str, content: bytes) -> Callable[[Path], Path]:
    def lay_out(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return lay_out
