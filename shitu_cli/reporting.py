"""How the inner layers speak to a user without printing: they receive a Reporter, the command line owns it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


def counted(number: int, thing: str, things: str = "") -> str:
    """A number with its noun: 1 picture, 1,200 pictures, 2 queries, 3 classes; `things` for plurals of other kinds."""
    if number != 1:
        ies, es = thing.endswith("y"), thing.endswith("s")
        thing = things or (f"{thing[:-1]}ies" if ies else f"{thing}es" if es else f"{thing}s")
    return f"{number:,} {thing}"


class Bar(Protocol):
    """One running progress line."""

    def advance(self, n: int = 1, **fields: object) -> None:
        """Count `n` more units done; `fields` (loss, lr, ...) replace those shown beside the bar."""


class Reporter(Protocol):
    """What a command shows while it works."""

    def info(self, text: str) -> None:
        """One plain line."""

    def warn(self, text: str) -> None:
        """One line that a user should act on."""

    def progress(self, what: str, total: int, unit: str = "images") -> AbstractContextManager[Bar]:
        """A progress line for `total` units of `what`, removed or finished when the context ends."""


class _SilentBar:
    def advance(self, n: int = 1, **fields: object) -> None:
        pass


class SilentReporter:
    """Shows nothing: for library use and for tests."""

    def info(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        pass

    def progress(self, what: str, total: int, unit: str = "images") -> AbstractContextManager[Bar]:
        return nullcontext(_SilentBar())
