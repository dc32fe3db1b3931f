"""COCO: a JSON of images, annotations and categories; every box is an image of its category, cut out when read.

Also what has COCO's shape: iNaturalist and Herbarium (labels of whole images, without boxes), LVIS (addresses instead
of file names), exports of Roboflow, CVAT, Label Studio. The keys: https://cocodataset.org/#format-data.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from shitu_cli.errors import DataError
from shitu_cli.inputs import read_json
from shitu_cli.preparation.formats.annotated import Annotated
from shitu_cli.preparation.formats.base import ANNOTATIONS, Format, Rows
from shitu_cli.preparation.formats.boxes import XYWH, Size, around, numbers, stated_size
from shitu_cli.preparation.formats.discovery import JSON_LIMIT, annotation_files, head_and_tail, split_of, spread
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.values import entries, words
from shitu_cli.preparation.problems import Problems


@dataclass(frozen=True)
class _Image:
    """An image of the file; `path` is None where it is not there."""

    path: str | None
    size: Size | None


def _files(source: Source) -> list[str]:
    """The files that have COCO's keys; those of key points, captions and panoptic ones not beside one of objects."""
    found = {}
    for file in spread(annotation_files(source, ".json"), 400):
        text = head_and_tail(source.base / file)
        if text.lstrip()[:1] == b"{" and b'"images"' in text and (b'"annotations"' in text or b'"categories"' in text):
            found[file] = b'"keypoints"' in text or b'"caption"' in text or b'"segments_info"' in text
    objects = [file for file, other in found.items() if not other]
    return objects or list(found)


def _detect(source: Source) -> bool:
    return bool(_files(source))


def _read(source: Source, problems: Problems) -> Rows:
    gathered = Annotated(source, problems, "COCO")
    files = _files(source)
    if not files:
        raise DataError(f"{source.path}: no .json with images, annotations and categories")
    alone = source.path.is_file()
    for file in files:
        _read_file(file, "" if alone else split_of(file), gathered)
    return gathered.rows()


def _read_file(file: str, split: str, gathered: Annotated) -> None:
    path = gathered.path(file)
    value = read_json(path, limit=JSON_LIMIT)
    if not isinstance(value, dict) or not isinstance(value.get("images"), list):
        raise DataError(f"{path}: expected an object with images, annotations and categories")
    if not isinstance(value.get("annotations"), list):
        gathered.problems.add("not-evaluated", str(path), "images without annotations: nothing to learn from")
        return
    gathered.units[file] = "annotations[{}]"
    names = _categories(value, file, gathered)
    used = {_key(item.get("image_id")) for _, item in entries(value, "annotations")}
    images = _images(value, used, file, split, gathered)
    for number, item in entries(value, "annotations"):
        image = images.get(_key(item.get("image_id")))
        if image is None:
            gathered.bad(file, number, f"image_id {item.get('image_id')!r} is not among its images")
            continue
        category = item.get("category_id")
        if image.path is None:
            continue
        if category is None or _key(category) not in names:
            gathered.bad(file, number, f"category_id {category!r} is not among its categories")
        elif item.get("iscrowd") in (1, True):
            gathered.problems.add("crowd", gathered.where(file, number), names[_key(category)])
        else:
            _add(item, image, names[_key(category)], file, number, split, gathered)


def _add(
    item: dict[str, Any], image: _Image, label: str, file: str, number: int, split: str, gathered: Annotated
) -> None:
    assert image.path is not None
    box = item.get("bbox")
    if not box:
        polygons = item.get("segmentation")
        if not polygons:  # a label of the whole image, as iNaturalist has them
            gathered.add(image.path, label, file, number, split=split, size=image.size)
            return
        box = _around_polygons(polygons)
        if box is None:
            gathered.bad(file, number, "no bbox, and its segmentation is no list of polygons")
            return
    values = numbers(box) if isinstance(box, list) else None
    if values is None or len(values) != 4:
        gathered.bad(file, number, f"bbox {str(box)[:80]}, expected [x, y, width, height]")
        return
    gathered.add(image.path, label, file, number, split=split, box=values, convention=XYWH, size=image.size)


def _around_polygons(polygons: object) -> list[float] | None:
    """x, y, width, height around the polygons [x1, y1, x2, y2, ...] of a segmentation."""
    flat: list[float] = []
    for polygon in polygons if isinstance(polygons, list) else []:
        values = numbers(polygon) if isinstance(polygon, list) else None
        if values is None or len(values) % 2 or len(values) < 4:
            return None
        flat += values
    if not flat:
        return None
    x1, y1, x2, y2 = around(list(zip(flat[::2], flat[1::2], strict=True)))
    return [x1, y1, x2 - x1, y2 - y1]


def _categories(value: dict[str, Any], file: str, gathered: Annotated) -> dict[str, str]:
    """Category id → class name. Names that several categories have are told apart by what they belong to, or the id."""
    names: dict[str, str] = {}
    above: dict[str, str] = {}
    for number, item in entries(value, "categories"):
        key = _key(item.get("id"))
        name = words(item.get("name")) or words(item.get("scientificName")) or key
        if not key:
            gathered.problems.add("bad-annotation", f"{gathered.path(file)}: categories[{number}]", "it has no id")
        elif names.setdefault(key, name) != name:
            detail = f"id {key} is {names[key]!r} already"
            gathered.problems.add("bad-annotation", f"{gathered.path(file)}: categories[{number}]", detail)
        above[key] = words(item.get("supercategory"))
    return _distinct(names, above)


def _distinct(names: dict[str, str], above: dict[str, str]) -> dict[str, str]:
    for longer in (lambda key: f"{above[key]}/{names[key]}", lambda key: f"{names[key]} ({key})"):
        counts = Counter(names.values())
        if max(counts.values(), default=1) == 1:
            break
        candidate = {key: name if counts[name] == 1 else longer(key) for key, name in names.items()}
        if len(set(candidate.values())) == len(candidate):
            return candidate
    return names


def _images(value: dict[str, Any], used: set[str], file: str, split: str, gathered: Annotated) -> dict[str, _Image]:
    """Image id → image; those without annotations are reported and not looked for."""
    images = {}
    for number, item in entries(value, "images"):
        where = f"{gathered.path(file)}: images[{number}]"
        key = _key(item.get("id"))
        name = item.get("file_name") or item.get("coco_url") or item.get("path")
        if not key or not isinstance(name, str):
            gathered.problems.add("bad-annotation", where, "it has no id or no file_name")
            continue
        whole = stated_size(item.get("width"), item.get("height"))
        if key in images:
            gathered.problems.add("bad-annotation", where, f"id {key} is that of another image already")
        elif key not in used:
            found = gathered.tree.find(name, gathered.near(file))
            if found.path is not None:
                gathered.listed.add(found.path)
                gathered.problems.add("no-objects", where, found.path)
        else:
            images[key] = _Image(_located(name, file, number, split, gathered), whole)
    return images


def _located(name: str, file: str, number: int, split: str, gathered: Annotated) -> str | None:
    unit, gathered.units[file] = gathered.units[file], "images[{}]"
    try:
        return gathered.find(name, file, number, split)
    finally:
        gathered.units[file] = unit


def _key(value: object) -> str:
    """Ids are whole numbers in some files and texts in others."""
    return words(value)


COCO = Format(
    "coco",
    "COCO: .json with images, annotations (bbox x,y,width,height) and categories, one for each split; every box is an "
    "image of its category; crowds and boxes under 4 pixels are left out",
    _detect,
    _read,
    ANNOTATIONS,
)
