"""VGG Image Annotator (VIA 1 and 2): JSON or CSV of regions with attributes, or of attributes of whole images."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from shitu_cli.errors import DataError
from shitu_cli.inputs import parse_json
from shitu_cli.preparation.formats.boxes import XYXY, Box, around_centre, around_points, around_size, numbers
from shitu_cli.preparation.formats.tool import AnnotationFile, annotation_format, files_ending, per_file
from shitu_cli.preparation.formats.values import label_text, list_of, object_of

_CSV_COLUMNS = ("region_shape_attributes", "region_attributes")


class _Entry(NamedTuple):
    """An image: its own attributes, and (shape, attributes) of each of its regions."""

    number: int
    image: str
    attributes: dict[str, Any]
    regions: list[tuple[dict[str, Any], dict[str, Any]]]


def _is_one(name: str, head: bytes) -> bool:
    if name.lower().endswith(".csv"):
        return all(column.encode() in head.partition(b"\n")[0] for column in _CSV_COLUMNS)
    return head.lstrip()[:1] == b"{" and b'"regions"' in head and b'"filename"' in head


def _read(file: AnnotationFile) -> None:
    menus: dict[str, dict[str, str]] = {}
    if file.name.lower().endswith(".csv"):
        entries = list(_of_csv(file))
    else:
        value = object_of(file.json())
        entries, menus = list(_of_json(value)), _menus(value)
        file.annotations.units[file.name] = "image {}"
    examples = _examples(attributes for entry in entries for _, attributes in entry.regions)
    by_region = file.choose(examples) if examples else ""
    whole = _examples(entry.attributes for entry in entries) if not examples else {}
    by_image = file.choose(whole) if whole else ""
    for entry in entries:
        labels = _labels(entry.attributes.get(by_image or ""), menus.get(by_image or "", {}))
        if not entry.regions and not labels:
            file.find_empty(entry.image, entry.number)
            continue
        image = file.find(entry.image, entry.number)
        if image is None:
            continue
        for label in labels:
            image.label(label)
        for shape, attributes in entry.regions:
            chosen = _labels(attributes.get(by_region or ""), menus.get(by_region or "", {}))
            region, shown = f"{entry.image}: a region that", json.dumps(shape)[:80]
            if len(chosen) != 1:
                image.bad(f"{region} has {len(chosen)} labels: {shown}")
            else:
                image.box(chosen[0], _box(shape), XYXY, f"{region} has no area: {shown}")


def _of_json(value: dict[str, Any]) -> Iterator[_Entry]:
    """Yield the images of an export, or of a whole project."""
    images = object_of(value.get("_via_img_metadata", value))
    for number, item in enumerate(map(object_of, images.values())):
        if isinstance(item.get("filename"), str):
            shapes = item.get("regions")
            regions = list(shapes.values()) if isinstance(shapes, dict) else list_of(shapes)
            pairs = [
                (object_of(region.get("shape_attributes")), object_of(region.get("region_attributes")))
                for region in map(object_of, regions)
            ]
            yield _Entry(number, item["filename"], object_of(item.get("file_attributes")), pairs)


def _of_csv(file: AnnotationFile) -> Iterator[_Entry]:
    """Yield the same from a row for each region."""
    for line, record in file.records():
        cells = {name.strip().lstrip("#").lower(): text for name, text in record.items()}
        if "filename" not in cells:
            raise DataError(f"{file.path}: no column filename; there are {', '.join(record)}")
        columns = [_cell(cells.get(name, "")) for name in ("file_attributes", *_CSV_COLUMNS)]
        if None in columns:
            file.bad(line, "attributes that are not a JSON object")
            continue
        whole, shape, attributes = map(object_of, columns)
        yield _Entry(line, cells["filename"], whole, [(shape, attributes)] if shape else [])


def _cell(text: str) -> dict[str, Any] | None:
    try:
        value = parse_json(text or "{}", "cell")
    except DataError:
        return None
    return value if isinstance(value, dict) else None


def _menus(value: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return attribute → id → label of the menus of a project."""
    menus: dict[str, dict[str, str]] = {}
    for group in object_of(value.get("_via_attributes")).values():
        for name, attribute in object_of(group).items():
            options = object_of(object_of(attribute).get("options"))
            menus[name] = {key: label_text(shown) for key, shown in options.items() if label_text(shown)}
    return menus


def _examples(objects: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Return attributes with a value of each."""
    examples: dict[str, str] = {}
    for attributes in objects:
        for name, value in attributes.items():
            if labels := _labels(value, {}):
                examples.setdefault(name, labels[0])
    return examples


def _labels(value: Any, menu: dict[str, str]) -> list[str]:
    """Return the values of an attribute: a text, the id of a menu, or several of them that are true."""
    if isinstance(value, dict):
        names = [name for name, is_set in value.items() if is_set is True]
    else:
        names = [label_text(value)] if label_text(value) else []
    return [menu.get(name, name) for name in names]


def _box(shape: dict[str, Any]) -> Box | None:
    """Return the box around a region; None for points and lines."""
    kind = shape.get("name")
    if kind in ("polygon", "polyline"):
        xs, ys = (list_of(shape.get(f"all_points_{axis}")) for axis in "xy")
        return around_points([list(pair) for pair in zip(xs, ys, strict=True)], 3) if len(xs) == len(ys) else None
    if kind == "rect" and (rect := numbers(shape.get(key) for key in ("x", "y", "width", "height"))):
        return around_size(*rect)
    if kind == "circle" and (circle := numbers(shape.get(key) for key in ("cx", "cy", "r"))):
        return around_centre(circle[0], circle[1], circle[2], circle[2])
    if kind == "ellipse" and (ellipse := numbers(shape.get(key, 0) for key in ("cx", "cy", "rx", "ry", "theta"))):
        x, y, a, b, theta = ellipse
        cos, sin = math.cos(theta), math.sin(theta)
        return around_centre(x, y, math.hypot(a * cos, b * sin), math.hypot(a * sin, b * cos))
    return None


VIA = annotation_format(
    "via",
    "VGG Image Annotator: .json (export or project) or .csv of regions, each an image of its attribute; or of "
    "attributes of whole images; --columns label=NAME where there are several attributes",
    tool="VIA",
    files=files_ending(".json", ".csv"),
    is_one=_is_one,
    read=per_file(_read),
    needs=".json or .csv of VIA",
    columns=frozenset(("label",)),
)
