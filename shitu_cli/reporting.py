"""Report to a user without printing: inner layers receive a Reporter, which the command line provides."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from shitu_cli.errors import Message
from shitu_cli.pace import Pace

# Characters that terminals obey or hide: control characters except line end and tab, DEL, C1, changes of the writing
# direction, line separators, and bytes of file names that are not text.
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """Return text that is safe for a terminal or a page: hidden characters become escapes like \\x1b."""
    return HIDDEN.sub(lambda character: character[0].encode("unicode_escape", "surrogatepass").decode(), text)


def visible_json(text: str) -> str:
    """Return JSON of the same value that is safe for a terminal: all hidden characters are escaped as JSON does it."""
    # JSON itself demands that only of control characters below U+0020; terminals also obey some above it.
    return HIDDEN.sub(lambda character: f"\\u{ord(character[0]):04x}", text)


def counted(number: int, thing: str, things: str = "") -> str:
    """Return a number with its noun: 1 image, 1,200 images, 2 queries, 3 classes; `things` for irregular plurals."""
    if number != 1:
        ies, es = bool(re.search("[^aeiou]y$", thing)), thing.endswith("s")
        thing = things or (f"{thing[:-1]}ies" if ies else f"{thing}es" if es else f"{thing}s")
    return f"{number:,} {thing}"


def short_list(items: Iterable[str], most: int = 3) -> str:
    """Return items for a message: `a, b, c, ...`, at most the first `most` of them."""
    items = list(items)
    return ", ".join(items[:most]) + (", ..." if len(items) > most else "")


def alternatives(words: Sequence[str]) -> str:
    """Return words as a sentence offers them: "a, b or c"."""
    *others, last = words or [""]
    return f"{', '.join(others)} or {last}" if others else last


def shortened(lines: Sequence[str], most: int) -> list[str]:
    """Return the first `most` lines and, if there are more, a line that says how many."""
    rest = len(lines) - most
    return [*lines[:most], f"... and {rest:,} more"] if rest > 0 else list(lines)


def unreadable(images: Sequence[str]) -> str:
    """Return a warning about unreadable `images`, given by the messages of their errors."""
    return f"left out as unreadable: {counted(len(images), 'image')}, such as {images[0]}"


def byte_size(count: int) -> str:
    """Return a number of bytes for people: 932 B, 12.2 kB, 33.7 MB."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """Return a duration such as `45 s`, `3 min 20 s` or `2 h 05 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Bar(Protocol):
    """One running progress line; `pace` estimates when it ends, and learns of work between units."""

    pace: Pace

    def advance(self, n: int = 1, **fields: object) -> None:
        """Count `n` more units done; `fields` (loss, lr, ...) replace those shown beside the bar."""


class Reporter(Protocol):
    """Receives what a command shows while it works."""

    def info(self, text: Message) -> None:
        """Show one line."""

    def warn(self, text: Message) -> None:
        """Show one line that a user should act on."""

    def progress(self, what: str, total: int, unit: str = "images") -> AbstractContextManager[Bar]:
        """Show a progress line for `total` units of `what` until the context ends."""


class _SilentBar:
    def __init__(self, total: int) -> None:
        self.pace = Pace(total)

    def advance(self, n: int = 1, **fields: object) -> None:
        self.pace.advance(n)


class SilentReporter:
    """Shows nothing: for library use and for tests."""

    def info(self, text: Message) -> None:
        pass

    def warn(self, text: Message) -> None:
        pass

    def progress(self, what: str, total: int, unit: str = "images") -> AbstractContextManager[Bar]:
        return nullcontext(_SilentBar(total))


class ProgressAlone(SilentReporter):
    """Shows the progress of work that is done again, not what has been said the first time."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def progress(self, what: str, total: int, unit: str = "images") -> AbstractContextManager[Bar]:
        return self._reporter.progress(what, total, unit)
