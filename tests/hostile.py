"""What may lie in the place of a file that somebody else wrote, how long its reader may take, and what it may show."""

from __future__ import annotations

import contextlib
import os
import signal
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path


def _bytes(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data) and None


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 42)


# What lies in the place of any file.
PLACES: dict[str, Callable[[Path], None]] = {
    "pipe": lambda path: os.mkfifo(path),
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "looped link": lambda path: path.symlink_to(path.name),
    "folder": lambda path: path.mkdir(),
    "no bytes": lambda path: path.touch(),
    "larger than any disk": _sparse,
    "bytes of no encoding": _bytes(b"\xff\xfe\xd8\x00\n\x80\x81,\x82\n" * 20),
}
# And of a text: a table, a list, JSON.
TEXTS: dict[str, Callable[[Path], None]] = {
    "NUL": _bytes(b"name,class\n\0.jpg,1\n\0 \0 \0 \0\n"),
    "other digits": _bytes("name,class\na.jpg,²\n1² ٣\n1 1²01\nAuk_1 ² 1 1\n".encode()),
    "numbers without end": _bytes(
        b'{"images": [{"image_id": "a", "class_id": ' + b"9" * 5000 + b"}]}\n1 " + b"9" * 5000
    ),
    "an infinite class": _bytes(b'{"images": [{"image_id": "a", "class_id": Infinity}]}'),
    "images that are none": _bytes(b'{"images": 5, "x": "\\"class_id\\""}'),
    "deep": _bytes(b'{"class_id": ' + b"[" * 200_000),
    "a cell without end": _bytes(b'name,class\n"' + b"a" * 200_000 + b'",1\n'),
    "one long line": _bytes(b"name,class\n" + b" " * 200_000 + b"x"),
}

# What turns the direction of writing, as Unicode names its kinds.
_TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@contextlib.contextmanager
def at_once(seconds: int = 20) -> Iterator[None]:
    """Fail instead of waiting for ever."""

    def fail(*_: object) -> None:
        raise AssertionError(f"still at work after {seconds} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def is_harmless(text: str) -> bool:
    """Return whether terminals and pages show this text as it is: none obeys it, and nothing turns it round."""
    kinds = {unicodedata.category(sign) for sign in text if sign not in "\n\t"}
    turns = {unicodedata.bidirectional(sign) for sign in text} & _TURNS
    marks = {"\u061c", "\u200e", "\u200f"} & set(text)
    return not (kinds & {"Cc", "Cs", "Zl", "Zp"} or turns or marks)
