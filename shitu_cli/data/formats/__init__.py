"""Source formats of `shitu prepare`. To add one: write a file with a Format and name it here."""

from __future__ import annotations

from pathlib import Path

from shitu_cli.data.formats.base import Format
from shitu_cli.data.formats.textlist import TEXT_LIST
from shitu_cli.data.formats.tree import CLASS_TREE, SPLIT_TREE
from shitu_cli.errors import UsageError

# The first that recognises a source reads it: special layouts come before general ones.
FORMATS: tuple[Format, ...] = (TEXT_LIST, SPLIT_TREE, CLASS_TREE)


def find_format(source: Path, name: str | None = None) -> Format:
    """The format named, or the first that recognises the source; UsageError for an unknown name."""
    if name is not None:
        for known in FORMATS:
            if known.name == name:
                return known
        raise UsageError(
            f"--format {name}: expected one of {', '.join(f.name for f in FORMATS)}", hint="shitu prepare --formats"
        )
    return next(known for known in FORMATS if known.detect(source))
