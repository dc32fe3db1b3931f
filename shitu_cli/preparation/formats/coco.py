"""COCO: a JSON of images, annotations and categories; every box is an image of its category, cut out when read.

Also what has COCO's shape: iNaturalist and Herbarium (labels of whole images, without boxes), LVIS (addresses instead
of file names), exports of Roboflow, CVAT, Label Studio. The keys: https://cocodataset.org/#format-data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.annotations import Annotations
from shitu_cli.preparation.formats.boxes import XYWH, around, around_flat, numbers, size_form, stated_size
from shitu_cli.preparation.formats.tool import AnnotationFile, ImageEntry, annotation_format, files_ending, per_file
from shitu_cli.preparation.formats.values import label_text, list_of, objects


def _is_one(name: str, head: bytes) -> bool:
    keys = b'"images"' in head and (b'"annotations"' in head or b'"categories"' in head)
    return head.lstrip()[:1] == b"{" and keys


def _read(annotations: Annotations, files: Sequence[str]) -> None:
    """Read the files of objects; those of key points, captions and panoptic ones only where there are no others."""
    marks = (b'"keypoints"', b'"caption"', b'"segments_info"')
    plain = [file for file in files if not any(mark in annotations.source.head(file) for mark in marks)]
    per_file(_read_file, "annotations[{}]")(annotations, plain or files)


def _read_file(file: AnnotationFile) -> None:
    value = file.json()
    if not isinstance(value, dict) or not isinstance(value.get("images"), list):
        raise DataError(f"{file.path}: expected an object with images, annotations and categories")
    if not isinstance(value.get("annotations"), list):
        file.problems.add("not-evaluated", str(file.path), "images without annotations: nothing to learn from")
        return
    names = _categories(file, value)
    parts = list(objects(value["annotations"]))
    # Ids are whole numbers in some files and texts in others.
    images = _images(file, value, {label_text(item.get("image_id")) for _, item in parts})
    for number, item in parts:
        key, category = label_text(item.get("image_id")), label_text(item.get("category_id"))
        if key not in images:
            file.bad(number, f"image_id {item.get('image_id')!r} is not among its images")
        elif (image := images[key]) is None:
            continue  # reported as missing
        elif category not in names:
            file.bad(number, f"category_id {item.get('category_id')!r} is not among its categories")
        elif item.get("iscrowd") in (1, True):
            file.problems.add("crowd", file.annotations.where(file.name, number), names[category])
        else:
            _add(image, item, names[category], number)


def _add(image: ImageEntry, item: dict[str, Any], label: str, number: int) -> None:
    box, polygons = item.get("bbox"), item.get("segmentation")
    if box:
        otherwise = f"bbox {str(box)[:80]}, expected [x, y, width, height]"
        image.box(label, numbers(list_of(box)), XYWH, otherwise, number)
    elif polygons:
        around_each = [around_flat(numbers(list_of(polygon))) for polygon in list_of(polygons)]
        corners = [corner for part in around_each if part is not None for corner in (part[:2], part[2:])]
        whole = size_form(around(corners)) if corners and None not in around_each else None
        image.box(label, whole, XYWH, "no bbox, and its segmentation is not a list of polygons", number)
    else:  # as iNaturalist has them
        image.label(label, number)


def _categories(file: AnnotationFile, value: dict[str, Any]) -> dict[str, str]:
    """Return category id → class name; equal names of several categories get their supercategory or their id."""
    names: dict[str, str] = {}
    above: dict[str, str] = {}
    for number, item in objects(value.get("categories")):
        key = label_text(item.get("id", item.get("category_id")))
        name = label_text(item.get("name")) or label_text(item.get("scientificName")) or key
        where = f"{file.path}: categories[{number}]"
        if not key:
            file.problems.add("bad-annotation", where, "it has no id")
        elif names.setdefault(key, name) != name:
            file.problems.add("bad-annotation", where, f"id {key} is {names[key]!r} already")
        above[key] = label_text(item.get("supercategory"))
    counts = Counter(names.values())
    for longer in (lambda key: f"{above[key]}/{names[key]}", lambda key: f"{names[key]} ({key})"):
        distinct = {key: name if counts[name] == 1 else longer(key) for key, name in names.items()}
        if len(set(distinct.values())) == len(distinct):
            break
    else:
        return names
    for name in {names[key] for key, longer_name in distinct.items() if longer_name == f"{names[key]} ({key})"}:
        file.problems.add("same-name", name, " and ".join(key for key in names if names[key] == name))
    return distinct


def _images(file: AnnotationFile, value: dict[str, Any], annotated: set[str]) -> dict[str, ImageEntry | None]:
    """Return image id → image, None for one that is missing; those without annotations are noted, and left out."""
    images: dict[str, ImageEntry | None] = {}
    units = file.annotations.units
    unit, units[file.name] = units[file.name], "images[{}]"
    for number, item in objects(value["images"]):
        key = label_text(item.get("id", item.get("image_id")))
        name = item.get("file_name") or item.get("coco_url") or item.get("path")
        if not key or not isinstance(name, str):
            file.bad(number, "it has no id or no file_name")
        elif key in images:
            file.bad(number, f"id {key} is that of another image already")
        elif key not in annotated:
            file.find_empty(name, number)
        else:
            images[key] = file.find(name, number, size=stated_size(item.get("width"), item.get("height")))
    units[file.name] = unit
    return images


COCO = annotation_format(
    "coco",
    "COCO: .json with images, annotations (bbox x,y,width,height) and categories, one for each split; every box is an "
    "image of its category; crowds and boxes under 4 pixels are left out",
    tool="COCO",
    files=files_ending(".json"),
    is_one=_is_one,
    read=_read,
    needs=".json with images, annotations and categories",
)
