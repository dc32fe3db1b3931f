"""LabelMe: a JSON for each image, with shapes, or with flags, of which the one that is set is the label."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from shitu_cli.preparation.formats.boxes import XYXY, Box, around, around_centre, around_points, stated_size
from shitu_cli.preparation.formats.tool import AnnotationFile, ImageEntry, annotation_format, files_ending, per_file
from shitu_cli.preparation.formats.values import label_text, object_of, objects

_AREAS = ("polygon", "rectangle", "circle", "rotation", "oriented_rectangle", "mask")


def _is_one(name: str, head: bytes) -> bool:
    return b'"imagePath"' in head and (b'"shapes"' in head or b'"flags"' in head)


def _read_image(file: AnnotationFile) -> None:
    value = object_of(file.json())
    if not isinstance(value.get("imagePath"), str):
        return
    size = stated_size(value.get("imageWidth"), value.get("imageHeight"))
    image = file.own_image(value["imagePath"], size=size)
    if image is None:
        return
    flags, shapes = object_of(value.get("flags")), value.get("shapes")
    if shapes:
        _add_shapes(image, shapes)
    elif flags:
        chosen = [name for name, is_set in flags.items() if is_set]
        if not chosen:
            file.problems.add("bad-annotation", str(file.path), "no flag is set, and one must be the label")
        for name in chosen:
            image.label(name)
    else:
        file.problems.add("no-objects", str(file.path), image.path)


def _add_shapes(image: ImageEntry, shapes: object) -> None:
    """Add the boxes around shapes; those of one group are parts of one object."""
    boxes: dict[tuple[str, object], list[Box]] = defaultdict(list)
    first: dict[tuple[str, object], int] = {}
    for number, shape in objects(shapes):
        box, kind = _box(shape), str(shape.get("shape_type") or "polygon")[:40]
        if box is None:
            image.bad(f"a {kind} without an area, or with points that are not numbers", number)
            continue
        group = shape.get("group_id")
        key: tuple[str, object] = (
            label_text(shape.get("label")),
            ("group", group) if isinstance(group, (int, str)) else number,
        )
        boxes[key].append(box)
        first.setdefault(key, number)
    for key, parts in boxes.items():
        whole = around([corner for box in parts for corner in (box[:2], box[2:])])
        image.box(key[0], whole, XYXY, "", first[key])


def _box(shape: dict[str, Any]) -> Box | None:
    """Return the box around a shape; None for points and lines."""
    kind, points = shape.get("shape_type") or "polygon", shape.get("points")
    box = around_points(points) if kind in _AREAS else None
    if box is not None and kind == "circle" and isinstance(points, list):  # the centre and a point of the edge
        (x, y), edge = map(float, points[0]), points[1]
        radius = math.hypot(float(edge[0]) - x, float(edge[1]) - y)
        return around_centre(x, y, radius, radius)
    return box


LABELME = annotation_format(
    "labelme",
    "LabelMe: a .json of shapes for each image, each shape an image of its label; or flags: the one that is set is the "
    "label of the image",
    tool="LabelMe",
    files=files_ending(".json"),
    is_one=_is_one,
    read=per_file(_read_image, "shapes[{}]"),
    needs=".json of LabelMe",
    per_image=True,
)
