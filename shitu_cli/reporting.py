"""How the inner layers speak to a user without printing: they receive a Reporter, the command line owns it."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from shitu_cli.errors import Message

# What terminals obey or hide instead of showing it: control characters but line end and tab, DEL, C1, changes of the
# writing direction, line separators, and bytes of file names that are no text.
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """Return text of files and users as it may reach a terminal or a page: what is hidden as escapes like \\x1b."""
    return HIDDEN.sub(lambda character: character[0].encode("unicode_escape", "surrogatepass").decode(), text)


def counted(number: int, thing: str, things: str = "") -> str:
    """A number with its noun: 1 picture, 1,200 pictures, 2 queries, 3 classes; `things` for plurals of other kinds."""
    if number != 1:
        ies, es = thing.endswith("y"), thing.endswith("s")
        thing = things or (f"{thing[:-1]}ies" if ies else f"{thing}es" if es else f"{thing}s")
    return f"{number:,} {thing}"


def byte_size(count: int) -> str:
    """Return bytes for people: 932 B, 12.2 kB, 33.7 MB."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


class Bar(Protocol):
    """One running progress line."""

    def advance(self, n: int = 1, **fields: object) -> None:
        """Count `n` more units done; `fields` (loss, lr, ...) replace those shown beside the bar."""


class Reporter(Protocol):
    """What a command shows while it works."""

    def info(self, text: Message) -> None:
        """One plain line."""

    def warn(self, text: Message) -> None:
        """One line that a user should act on."""

    def progress(self, what: str, total: int, unit: str = "images") -> AbstractContextManager[Bar]:
        """A progress line for `total` units of `what`, removed or finished when the context ends."""


class _SilentBar:
    def advance(self, n: int = 1, **fields: object) -> None:
        pass


class SilentReporter:
    """Shows nothing: for library use and for tests."""

    def info(self, text: Message) -> None:
        pass

    def warn(self, text: Message) -> None:
        pass

    def progress(self, what: str, total: int, unit: str = "images") -> AbstractContextManager[Bar]:
        return nullcontext(_SilentBar())
