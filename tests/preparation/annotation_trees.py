"""Small trees as annotation tools leave them, for the tests of their readers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from shitu_cli.preparation.formats import find_format
from shitu_cli.preparation.formats.base import ReadOptions, Rows
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems

Boxes = dict[str, list[tuple[str, float, float, float, float]]]


def draw(path: Path, size: tuple[int, int] = (64, 48)) -> Path:
    """An image of width and height `size`, its texture drawn from its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(str(path.name).encode()))
    image = cv2.resize(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8), size)
    path.write_bytes(cv2.imencode(path.suffix if path.suffix in (".png", ".tif") else ".jpg", image)[1].tobytes())
    return path


def draw_all(root: Path, *names: str, size: tuple[int, int] = (64, 48)) -> None:
    for name in names:
        draw(root / name, size)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def write_json(path: Path, value: Any) -> Path:
    return write(path, json.dumps(value))


def read(root: Path, name: str, **options: Any) -> tuple[Rows, Problems]:
    """Read a tree with the format that recognises it, which must be `name`."""
    source = Source(root, ReadOptions(**options))
    chosen = find_format(source)
    assert chosen.name == name
    problems = Problems()
    return chosen.read(source, problems), problems


def boxes(rows: Rows) -> Boxes:
    """path → [(label, x1, y1, x2, y2), ...]"""
    found: Boxes = {}
    for number, path in enumerate(rows.paths):
        found.setdefault(path, []).append((rows.labels[number], *rows.boxes[number]))
    return found


def labels(rows: Rows) -> dict[str, str]:
    """path → label, of rows without boxes."""
    assert not rows.boxes
    return dict(zip(rows.paths, rows.labels, strict=True))


def splits(rows: Rows) -> dict[str, str]:
    return dict(zip(rows.paths, rows.splits, strict=True))


def kinds(problems: Problems) -> dict[str, int]:
    """kind → count, of what is an error or a warning."""
    return {name: found.count for name, kind, found in problems.ordered() if kind.level != "note"}


def coco(
    images: Iterable[str], objects: Sequence[tuple[int, int, list[float]]], names: Sequence[str] = ("cat", "dog")
) -> dict[str, Any]:
    """COCO's JSON: objects are (image, category from 1, bbox)."""
    return {
        "images": [{"id": n, "file_name": name, "width": 64, "height": 48} for n, name in enumerate(images)],
        "annotations": [
            {"id": n, "image_id": image, "category_id": category, "bbox": bbox, "iscrowd": 0}
            for n, (image, category, bbox) in enumerate(objects)
        ],
        "categories": [{"id": n, "name": name, "supercategory": "pet"} for n, name in enumerate(names, 1)],
    }


def voc(name: str, *objects: tuple[str, float, float, float, float], size: tuple[int, int] = (64, 48)) -> str:
    """Pascal VOC's XML."""
    inner = "".join(
        f"<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax>"
        f"<ymax>{d}</ymax></bndbox></object>"
        for label, a, b, c, d in objects
    )
    shape = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"<annotation><folder>x</folder><filename>{name}</filename>{shape}{inner}</annotation>"
