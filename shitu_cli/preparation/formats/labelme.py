"""LabelMe: a JSON of shapes for each image, or of flags of which the one that is set is the label of the image."""

from __future__ import annotations

import math
from typing import Any

from shitu_cli.errors import DataError
from shitu_cli.inputs import read_json
from shitu_cli.preparation.formats.annotated import Annotated
from shitu_cli.preparation.formats.base import ANNOTATIONS, Box, Format, Rows
from shitu_cli.preparation.formats.boxes import XYXY, around, numbers, stated_size
from shitu_cli.preparation.formats.discovery import JSON_LIMIT, annotation_files, head_and_tail, spread
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.values import entries, words
from shitu_cli.preparation.problems import Problems

_AREAS = ("polygon", "rectangle", "circle", "rotation", "oriented_rectangle", "mask")


def _is_labelme(text: bytes) -> bool:
    return b'"imagePath"' in text and (b'"shapes"' in text or b'"flags"' in text)


def _detect(source: Source) -> bool:
    return any(_is_labelme(head_and_tail(source.base / file)) for file in spread(annotation_files(source, ".json")))


def _read(source: Source, problems: Problems) -> Rows:
    gathered = Annotated(source, problems, "LabelMe", per_image=True)
    for file in annotation_files(source, ".json"):
        gathered.units[file] = "shapes[{}]"
        try:
            value = read_json(gathered.path(file), limit=JSON_LIMIT)
        except DataError as error:
            problems.add("bad-annotation", error.message)
            continue
        if isinstance(value, dict) and isinstance(value.get("imagePath"), str):
            _read_image(file, value, gathered)
    return gathered.rows()


def _read_image(file: str, value: dict[str, Any], gathered: Annotated) -> None:
    image = gathered.image_of(file, value["imagePath"])
    if image is None:
        return
    stated = stated_size(value.get("imageWidth"), value.get("imageHeight"))
    flags = value.get("flags")
    shapes = value.get("shapes")
    if isinstance(flags, dict) and flags and not shapes:
        chosen = [words(name) for name, is_set in flags.items() if is_set]
        if not chosen:
            gathered.problems.add("bad-annotation", str(gathered.path(file)), "no flag is set, one is the label")
        for name in chosen:
            gathered.add(image, name, file, 0)
        return
    if not shapes:
        gathered.problems.add("no-objects", str(gathered.path(file)), image)
    groups: dict[tuple[str, object], list[Box]] = {}
    first: dict[tuple[str, object], int] = {}
    key: tuple[str, object]
    for number, shape in entries(value, "shapes"):
        box = _box(shape)
        if box is None:
            kind = str(shape.get("shape_type") or "polygon")[:40]
            gathered.bad(file, number, f"a {kind} without an area, or with points that are no numbers")
            continue
        label, group = words(shape.get("label")), shape.get("group_id")
        # Shapes of one group are parts of one object.
        key = (label, ("group", group) if isinstance(group, (int, str)) else number)
        groups.setdefault(key, []).append(box)
        first.setdefault(key, number)
    for key, boxes in groups.items():
        whole = around([corner for box in boxes for corner in (box[:2], box[2:])])
        gathered.add(image, key[0], file, first[key], box=whole, convention=XYXY, size=stated)


def _box(shape: dict[str, Any]) -> Box | None:
    """The box around a shape; None for points and lines."""
    found = shape.get("points")
    points = [numbers(point) for point in found if isinstance(point, list)] if isinstance(found, list) else []
    good = [point for point in points if point is not None and len(point) == 2]
    kind = shape.get("shape_type") or "polygon"
    if kind not in _AREAS or len(good) != len(points) or len(good) < 2:
        return None
    if kind == "circle":  # the centre and a point of the edge
        (x, y), edge = good[0], good[1]
        radius = math.hypot(edge[0] - x, edge[1] - y)
        return x - radius, y - radius, x + radius, y + radius
    return around(good)


LABELME = Format(
    "labelme",
    "LabelMe: a .json of shapes for each image, each shape an image of its label; or flags: the one that is set is the "
    "label of the image",
    _detect,
    _read,
    ANNOTATIONS,
)
