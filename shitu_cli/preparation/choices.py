"""The choices of the user for `prepare`, with their defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from shitu_cli.preparation.formats.base import ReadOptions


@dataclass(frozen=True)
class Choices:
    """How to read and split. `split` is auto, open, closed or none; `fix` leaves out what cannot be used.

    `keep_apart` makes classes of one name in several sources two; `quick` reads the headers of images only;
    `corrections` is a table of labels to change.
    """

    format: str | None = None
    split: str = "auto"
    share: float = 0.2
    seed: int = 0
    fix: bool = False
    quick: bool = False
    keep_apart: bool = False
    corrections: Path | None = None
    read: ReadOptions = field(default_factory=ReadOptions)
