"""Label Studio: its JSON, JSON-MIN and CSV exports of choices (labels of whole images) and of labelled regions."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from shitu_cli.data.images import is_image_name
from shitu_cli.errors import DataError
from shitu_cli.inputs import parse_json
from shitu_cli.preparation.formats.boxes import (
    XYWH_PERCENT,
    Size,
    around_centre,
    around_points,
    numbers,
    size_form,
    stated_size,
    turned,
)
from shitu_cli.preparation.formats.delimited import header_of
from shitu_cli.preparation.formats.source import plain_path
from shitu_cli.preparation.formats.tool import AnnotationFile, ImageEntry, annotation_format, files_ending, per_file
from shitu_cli.preparation.formats.values import choose_attribute, label_text, list_of, object_of

# What its exports add to the columns of the data.
_OWN = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement", "comments", "review"}
_MARKS = {"annotation_id", "lead_time"}
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # put before the name of an uploaded file
_IMAGE_KEYS = ("image", "img", "photo", "picture", "url", "image_url")


def _is_one(name: str, head: bytes) -> bool:
    if not name.lower().endswith(".json"):
        return {cell.lower() for cell in header_of(head)} >= _MARKS
    tasks = b'"data"' in head and (b'"annotations"' in head or b'"completions"' in head) and b'"result"' in head
    return head.lstrip()[:1] == b"[" and (tasks or all(f'"{mark}"'.encode() in head for mark in _MARKS))


def _read(file: AnnotationFile) -> None:
    if not file.name.lower().endswith(".json"):
        _read_records(file, file.records())
        return
    value = file.json()
    if not isinstance(value, list):
        raise DataError(f"{file.path}: expected a list of tasks")
    file.annotations.units[file.name] = "task {}"
    if any(isinstance(object_of(task).get("data"), dict) for task in value):
        for number, task in enumerate(map(object_of, value)):
            _read_task(file, number, task)
    else:
        _read_records(file, [(number, task) for number, task in enumerate(value) if isinstance(task, dict)])


# --- Tasks: the full JSON ---


@dataclass
class _Region:
    """The results of one id: a part of the image (`place`, None for the whole of it) and its labels."""

    labels: list[str] = field(default_factory=list)
    place: dict[str, Any] | None = None
    size: Size | None = None

    def take(self, value: dict[str, Any], result: dict[str, Any]) -> None:
        """Add a result: choices, or rectanglelabels, polygonlabels, labels ...; or the place alone."""
        for key, item in value.items():
            if key == "choices" or key.endswith("labels"):
                texts = map(label_text, item if isinstance(item, list) else [item])
                self.labels += [text for text in texts if text and text not in self.labels]
        if self.place is None and ("x" in value or "points" in value or "rle" in value):
            self.place = value
            self.size = stated_size(result.get("original_width"), result.get("original_height"))

    def add_to(self, image: ImageEntry) -> None:
        if self.place is None:
            for label in self.labels:
                image.label(label)
        elif len(self.labels) != 1:
            image.bad(f"a region of {image.path} that has {len(self.labels)} labels")
        else:
            image.size = self.size
            otherwise = f"a region of {image.path} that is not a rectangle, polygon or ellipse"
            image.box(self.labels[0], _box(self.place, self.size), XYWH_PERCENT, otherwise)


def _read_task(file: AnnotationFile, number: int, task: dict[str, Any]) -> None:
    name = _image_of(object_of(task.get("data")))
    if name is None:
        file.bad(number, "its data name no image, or several")
        return
    work = map(object_of, list_of(task.get("annotations", task.get("completions"))))
    results = [result for done in work if not done.get("was_cancelled") for result in list_of(done.get("result"))]
    if not results:
        file.empty(number, name)
        return
    image = _find(file, name, number)
    regions: dict[str, _Region] = {}
    for at, result in enumerate(map(object_of, results)):
        if isinstance(result.get("value"), dict):
            regions.setdefault(str(result.get("id") or f"number {at}"), _Region()).take(result["value"], result)
    for region in regions.values() if image is not None else ():
        assert image is not None
        region.add_to(image)


def _image_of(data: dict[str, Any]) -> str | None:
    """Return the value of a task's data that is an image; of several, the one whose key says so."""
    images = {key: value for key, value in data.items() if isinstance(value, str) and is_image_name(_plain(value))}
    by_name = [data[key] for key in _IMAGE_KEYS if isinstance(data.get(key), str)]
    called_so = [images[key] for key in _IMAGE_KEYS if key in images]
    if called_so or len(images) == 1:
        return called_so[0] if called_so else next(iter(images.values()))
    return by_name[0] if len(by_name) == 1 else None


def _box(place: dict[str, Any], size: Size | None) -> Sequence[float] | None:
    """Return x, y, width, height in percent of the image, around a shape that may be turned or round."""
    if isinstance(place.get("points"), list):
        box = around_points(place["points"], 3)
        return None if box is None else size_form(box)
    ellipse = numbers(place.get(key) for key in ("x", "y", "radiusX", "radiusY"))
    if ellipse is not None:
        return size_form(around_centre(*ellipse))
    values = numbers(place.get(key) for key in ("x", "y", "width", "height"))
    angle = numbers([place.get("rotation") or 0])
    if values is None or angle is None or not angle[0]:
        return values if angle is not None else None
    # It is turned in pixels: percent of width and height are of different length.
    width, height = size or (100, 100)
    x, y, across, down = (value * side / 100 for value, side in zip(values, (width, height) * 2, strict=True))
    corners = size_form(turned(x, y, across, down, angle[0]))
    return [value * 100 / side for value, side in zip(corners, (width, height) * 2, strict=True)]


# --- Records: JSON-MIN and CSV ---


def _read_records(file: AnnotationFile, records: Sequence[tuple[int, dict[str, Any]]]) -> None:
    """Read a record for each annotation: columns of the data, and one for each control of the labelling interface."""
    images, examples = _examples([record for _, record in records])
    image_key = file.columns.get("image") or choose_attribute(images, None, str(file.path), "image")
    if image_key is None:
        raise DataError(f"{file.path}: no column names images", hint="--columns image=...,label=...")
    examples.pop(image_key, None)
    # `choice` and `label` are the tool's own names for its controls.
    usual = {key: value for key, value in examples.items() if key.lower() in ("choice", "label", "choices")}
    label_key = file.choose(usual if len(usual) == 1 else examples)
    for number, record in records:
        name = record.get(image_key)
        items = _items(record.get(label_key)) if label_key is not None else []
        if not isinstance(name, str) or not name:
            file.bad(number, f"{image_key} is empty")
        elif not items:
            file.empty(number, name)
        elif (image := _find(file, name, number)) is not None:
            for item in items:
                if isinstance(item, dict):
                    region = _Region()
                    region.take(item, item)
                    region.add_to(image)
                else:
                    image.label(item)


def _examples(records: Sequence[dict[str, Any]]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the columns that name images, and all others that hold something, with a value of each."""
    images: dict[str, str] = {}
    others: dict[str, str] = {}
    for record in records:
        for key, value in record.items():
            if isinstance(value, str) and is_image_name(_plain(value)):
                images.setdefault(key, value)
            elif value not in (None, "", []) and key.lower() not in _OWN:
                others.setdefault(key, str(value)[:80])
    return images, others


def _items(value: Any) -> list[Any]:
    """Return a cell as the list that it means: of a name, of {"choices": [...]}, or of regions."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            value = parse_json(value, "cell")
        except DataError:
            return [value]
    if isinstance(value, dict) and isinstance(value.get("choices"), list):
        return list(value["choices"])
    return value if isinstance(value, list) else [value] if value not in (None, "") else []


def _plain(name: str) -> str:
    """Return the path in an address of Label Studio's own: /data/local-files/?d=photos/1.jpg is photos/1.jpg."""
    if "local-files/?d=" in name:
        return urllib.parse.unquote(name.partition("?d=")[2].partition("&")[0])
    return plain_path(name)


def _find(file: AnnotationFile, name: str, number: int) -> ImageEntry | None:
    """Return the image of a task; an uploaded one may have its own name, without the prefix of the upload."""
    plain, tree = _plain(name), file.annotations.tree
    base = plain.rpartition("/")[2]
    if tree.find(plain, file.annotations.near(file.name)).path is None and _UPLOAD.match(base):
        plain = base[9:] if tree.find(base[9:]).path is not None else plain
    return file.find(plain, number)


LABEL_STUDIO = annotation_format(
    "labelstudio",
    "Label Studio: its JSON, JSON-MIN or CSV with the images beside; choices are labels of whole images, regions are "
    "images of their label",
    tool="Label Studio",
    files=files_ending(".json", ".csv", ".tsv"),
    is_one=_is_one,
    read=per_file(_read),
    needs="export of Label Studio (.json or .csv)",
    columns=frozenset(("image", "label")),
)
