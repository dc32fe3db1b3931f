"""The arrows between rooms point down, as docs/architecture.md draws them; every room is in the wheel."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.sources import PACKAGE, ROOT, Source, sources

DRAWING = ROOT / "docs" / "architecture.md"


def floors() -> list[list[str]]:
    """The rooms of each floor in the drawing of docs/architecture.md, from the bottom up."""
    drawing = DRAWING.read_text(encoding="utf-8").partition("```rooms\n")[2].partition("```")[0]
    return [line[:50].split() for line in reversed(drawing.splitlines())]


FLOOR_OF = {room: floor for floor, rooms in enumerate(floors()) for room in rooms}


def rooms() -> list[str]:
    """The names of all rooms that there are: subpackages, and modules directly in the package."""
    inside = [path for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    return sorted(path.stem for path in inside if not path.stem.startswith("__"))


def imports_of(source: Source) -> Iterator[tuple[int, str]]:
    """(line, room) of each import from the package, those inside functions included."""
    for node in source.nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "shitu_cli" else [f"shitu_cli.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("shitu_cli."):
                yield node.lineno, name.split(".")[1]


def test_every_room_has_a_floor() -> None:
    assert set(rooms()) - FLOOR_OF.keys() == set()


@pytest.mark.parametrize("room", rooms())
def test_arrows_point_down(room: str) -> None:
    upward = [
        f"{file}:{line} imports from {target}"
        for file, source in sources().items()
        if file == f"{room}.py" or file.startswith(f"{room}/")
        for line, target in imports_of(source)
        if FLOOR_OF.get(target, 0) > FLOOR_OF[room]
    ]
    assert upward == []


def test_the_wheel_holds_every_package() -> None:
    listed = set(re.findall(r'^  "(shitu_cli[\w.]*)",$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    present = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert listed - {"shitu_cli.templates"} == present  # the templates lie beside the package in a source tree
