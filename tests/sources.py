"""The package's own files, for tests of how the code is written: parsed once for all of them."""

from __future__ import annotations

import ast
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "shitu_cli"


class Source(NamedTuple):
    """A file's text, and all nodes of its syntax tree."""

    text: str
    nodes: list[ast.AST]


def parsed(text: str) -> Source:
    return Source(text, list(ast.walk(ast.parse(text))))


@lru_cache(maxsize=1)
def sources() -> dict[str, Source]:
    """Every file of the package by its name below it, such as `cli/app.py`."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {file.relative_to(PACKAGE).as_posix(): parsed(file.read_text(encoding="utf-8")) for file in files}
