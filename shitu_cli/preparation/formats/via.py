"""VGG Image Annotator (VIA 1 and 2): JSON or CSV of regions with attributes, or of attributes of whole images."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from shitu_cli.errors import DataError
from shitu_cli.inputs import parse_json, read_json
from shitu_cli.preparation.formats.annotated import Annotated
from shitu_cli.preparation.formats.base import ANNOTATIONS, Box, Format, Rows
from shitu_cli.preparation.formats.boxes import XYXY, around, numbers
from shitu_cli.preparation.formats.csv_files import read_csv
from shitu_cli.preparation.formats.discovery import JSON_LIMIT, annotation_files, head_and_tail, spread
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.values import choose_attribute, object_of, words
from shitu_cli.preparation.problems import Problems

_CSV_COLUMNS = ("region_shape_attributes", "region_attributes")
# (image, attributes of the image, [(shape, attributes) of its regions]) with the number of the entry.
_Entry = tuple[int, str, dict[str, Any], list[tuple[dict[str, Any], dict[str, Any]]]]


def _files(source: Source) -> list[str]:
    found = []
    for file in spread(annotation_files(source, ".json", ".csv")):
        text = head_and_tail(source.base / file)
        if file.lower().endswith(".csv"):
            known = all(name.encode() in text.partition(b"\n")[0] for name in _CSV_COLUMNS)
        else:
            known = text.lstrip()[:1] == b"{" and b'"regions"' in text and b'"filename"' in text
        if known:
            found.append(file)
    return found


def _detect(source: Source) -> bool:
    return bool(_files(source))


def _read(source: Source, problems: Problems) -> Rows:
    gathered = Annotated(source, problems, "VIA")
    files = _files(source)
    if not files:
        raise DataError(f"{source.path}: no .json or .csv of VIA")
    for file in files:
        if file.lower().endswith(".csv"):
            items, options = list(_of_csv(file, gathered)), {}
        else:
            value = read_json(gathered.path(file), limit=JSON_LIMIT)
            items, options = list(_of_json(value)), _options(value)
            gathered.units[file] = "image {}"
        _read_file(file, items, options, gathered)
    return gathered.rows()


def _of_json(value: Any) -> Iterator[_Entry]:
    """The images of an export, or of a whole project."""
    images = value.get("_via_img_metadata", value) if isinstance(value, dict) else {}
    for number, item in enumerate(images.values() if isinstance(images, dict) else []):
        if not isinstance(item, dict) or not isinstance(item.get("filename"), str):
            continue
        found = item.get("regions")
        regions = found.values() if isinstance(found, dict) else found if isinstance(found, list) else []
        pairs = [
            (object_of(r.get("shape_attributes")), object_of(r.get("region_attributes")))
            for r in map(object_of, regions)
        ]
        yield number, item["filename"], object_of(item.get("file_attributes")), pairs


def _of_csv(file: str, gathered: Annotated) -> Iterator[_Entry]:
    """The same from a row for each region."""
    header, rows = read_csv(gathered.path(file), gathered.problems)
    at = {name.strip().lstrip("#").lower(): number for number, name in enumerate(header)}
    if "filename" not in at:
        raise DataError(f"{gathered.path(file)}: no column filename; there are {', '.join(header)}")
    for line, cells in rows:
        columns = [_cell(cells[at[name]]) if name in at else {} for name in ("file_attributes", *_CSV_COLUMNS)]
        if None in columns:
            gathered.bad(file, line, "attributes that are no JSON object")
            continue
        whole, shape, attributes = (column or {} for column in columns)
        yield line, cells[at["filename"]], whole, [(shape, attributes)] if shape else []


def _cell(text: str) -> dict[str, Any] | None:
    try:
        value = parse_json(text or "{}", "cell")
    except DataError:
        return None
    return value if isinstance(value, dict) else None


def _options(value: Any) -> dict[str, dict[str, str]]:
    """Attribute → id → what the annotator saw, of a project's menus."""
    found: dict[str, dict[str, str]] = {}
    attributes = object_of(value).get("_via_attributes")
    for group in object_of(attributes).values():
        for name, attribute in object_of(group).items():
            menu = object_of(object_of(attribute).get("options"))
            found[name] = {key: words(shown) for key, shown in menu.items() if words(shown)}
    return found


def _read_file(file: str, items: list[_Entry], options: dict[str, dict[str, str]], gathered: Annotated) -> None:
    given, where = gathered.source.options.columns.get("label"), str(gathered.path(file))
    regions = _examples(attributes for _, _, _, parts in items for _, attributes in parts)
    by_region = choose_attribute(regions, given, where) if regions else None
    whole = _examples(attributes for _, _, attributes, _ in items) if not regions else {}
    by_image = choose_attribute(whole, given, where) if whole else None
    for number, name, attributes, parts in items:
        values = _chosen(attributes.get(by_image), options.get(by_image, {})) if by_image else []
        if not parts and not values:
            _without_labels(name, file, number, gathered)
            continue
        image = gathered.find(name, file, number)
        if image is None:
            continue
        for label in values:
            gathered.add(image, label, file, number)
        for shape, found in parts:
            box = _box(shape)
            chosen = _chosen(found.get(by_region), options.get(by_region, {})) if by_region else []
            if box is None or len(chosen) != 1:
                reason = "has no area" if box is None else f"has {len(chosen)} labels"
                gathered.bad(file, number, f"{name}: a region that {reason}: {json.dumps(shape)[:80]}")
            else:
                gathered.add(image, chosen[0], file, number, split="", box=box, convention=XYXY)


def _without_labels(name: str, file: str, number: int, gathered: Annotated) -> None:
    found = gathered.tree.find(name, gathered.near(file)).path
    if found is not None:
        gathered.listed.add(found)
        gathered.problems.add("no-objects", gathered.where(file, number), found)


def _examples(objects: Iterator[dict[str, Any]] | Any) -> dict[str, str]:
    """Attributes with a value of each."""
    found: dict[str, str] = {}
    for attributes in objects:
        for name, value in attributes.items():
            if chosen := _chosen(value, {}):
                found.setdefault(name, chosen[0])
    return found


def _chosen(value: Any, menu: dict[str, str]) -> list[str]:
    """The values of an attribute: a text, the id of a menu, or several of them that are true."""
    if isinstance(value, dict):
        names = [name for name, is_set in value.items() if is_set is True]
    else:
        names = [words(value)] if words(value) else []
    return [menu.get(name, name) for name in names]


def _box(shape: dict[str, Any]) -> Box | None:
    """The box around a region; None for points and lines."""
    kind = shape.get("name")
    if kind == "rect":
        values = numbers(shape.get(key) for key in ("x", "y", "width", "height"))
        return None if values is None else (values[0], values[1], values[0] + values[2], values[1] + values[3])
    if kind in ("polygon", "polyline"):
        xs, ys = (shape.get(f"all_points_{axis}") for axis in "xy")
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys) or len(xs) < 3:
            return None
        across, down = numbers(xs), numbers(ys)
        return around(list(zip(across, down, strict=True))) if across and down else None
    if kind == "circle":
        circle = numbers(shape.get(key) for key in ("cx", "cy", "r"))
        return None if circle is None else _about(circle[0], circle[1], circle[2], circle[2])
    if kind == "ellipse":
        ellipse = numbers(shape.get(key, 0) for key in ("cx", "cy", "rx", "ry", "theta"))
        if ellipse is None:
            return None
        x, y, a, b, theta = ellipse
        cos, sin = math.cos(theta), math.sin(theta)
        return _about(x, y, math.hypot(a * cos, b * sin), math.hypot(a * sin, b * cos))
    return None


def _about(x: float, y: float, across: float, down: float) -> Box:
    return x - across, y - down, x + across, y + down


VIA = Format(
    "via",
    "VGG Image Annotator: .json (export or project) or .csv of regions, each an image of its attribute; or of "
    "attributes of whole images; --columns label=NAME where there are several attributes",
    _detect,
    _read,
    ANNOTATIONS,
    frozenset(("label",)),
)
