"""Label Studio: its JSON, JSON-MIN and CSV exports of choices (labels of whole images) and of labelled regions."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator
from typing import Any

from shitu_cli.errors import DataError
from shitu_cli.inputs import parse_json, read_json
from shitu_cli.preparation.formats.annotated import Annotated
from shitu_cli.preparation.formats.base import ANNOTATIONS, Format, Rows
from shitu_cli.preparation.formats.boxes import XYWH_PERCENT, around, numbers, stated_size, turned
from shitu_cli.preparation.formats.csv_files import header_of, read_csv
from shitu_cli.preparation.formats.discovery import JSON_LIMIT, annotation_files, head_and_tail, spread
from shitu_cli.preparation.formats.source import Source, has_image_suffix, plain_path
from shitu_cli.preparation.formats.values import choose_attribute, list_of, object_of, words
from shitu_cli.preparation.problems import Problems

# What its exports add to the columns of the data.
_OWN = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement", "comments", "review"}
_MARKS = {"annotation_id", "lead_time"}
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # put before the name of an uploaded file
_IMAGE_KEYS = ("image", "img", "photo", "picture", "url", "image_url")


def _files(source: Source) -> list[str]:
    found = []
    for file in spread(annotation_files(source, ".json", ".csv", ".tsv")):
        path = source.base / file
        if not file.lower().endswith(".json"):
            known = {name.lower() for name in header_of(path)} >= _MARKS
        else:
            text = head_and_tail(path)
            tasks = b'"data"' in text and (b'"annotations"' in text or b'"completions"' in text)
            known = text.lstrip()[:1] == b"[" and (
                (tasks and b'"result"' in text) or (b'"annotation_id"' in text and b'"lead_time"' in text)
            )
        if known:
            found.append(file)
    return found


def _detect(source: Source) -> bool:
    return bool(_files(source))


def _read(source: Source, problems: Problems) -> Rows:
    gathered = Annotated(source, problems, "Label Studio")
    files = _files(source)
    if not files:
        raise DataError(f"{source.path}: no export of Label Studio (.json or .csv)")
    for file in files:
        if file.lower().endswith(".json"):
            value = read_json(gathered.path(file), limit=JSON_LIMIT)
            if not isinstance(value, list):
                raise DataError(f"{gathered.path(file)}: expected a list of tasks")
            gathered.units[file] = "task {}"
            if any(isinstance(task, dict) and isinstance(task.get("data"), dict) for task in value):
                for number, task in enumerate(value):
                    _read_task(task, file, number, gathered)
            else:
                _read_records(file, [(n, task) for n, task in enumerate(value) if isinstance(task, dict)], gathered)
        else:
            header, rows = read_csv(gathered.path(file), problems)
            _read_records(file, [(line, dict(zip(header, cells, strict=True))) for line, cells in rows], gathered)
    return gathered.rows()


# --- Tasks: the full JSON ---


def _read_task(task: Any, file: str, number: int, gathered: Annotated) -> None:
    data = task.get("data") if isinstance(task, dict) else None
    name = _image_of(data) if isinstance(data, dict) else None
    if name is None:
        gathered.bad(file, number, "its data name no image, or several")
        return
    work = map(object_of, list_of(task.get("annotations", task.get("completions"))))
    finished = [done for done in work if not done.get("was_cancelled")]
    results = [object_of(result) for done in finished for result in list_of(done.get("result"))]
    if not results:
        gathered.problems.add("no-objects", gathered.where(file, number), name)
        return
    image = _find(name, file, number, gathered)
    if image is not None:
        for labels, value, size in _objects(results):
            _add(image, labels, value, size, file, number, gathered)


def _image_of(data: dict[str, Any]) -> str | None:
    """The one value of a task's data that is an image; of several the one that is called so."""
    found = {key: value for key, value in data.items() if isinstance(value, str) and has_image_suffix(_plain(value))}
    named = [key for key in _IMAGE_KEYS if key in found]
    if len(found) == 1 or named:
        return found[named[0] if named else next(iter(found))]
    texts = [data[key] for key in _IMAGE_KEYS if isinstance(data.get(key), str)]
    return texts[0] if len(texts) == 1 else None


def _objects(results: list[dict[str, Any]]) -> Iterator[tuple[list[str], dict[str, Any] | None, tuple[Any, Any]]]:
    """(labels, region or None, size stated) of the results: those of one id are a region and its labels."""
    regions: dict[str, tuple[list[str], dict[str, Any] | None, tuple[Any, Any]]] = {}
    for number, result in enumerate(results):
        value = result.get("value")
        if not isinstance(value, dict):
            continue
        key = str(result.get("id") or f"number {number}")
        labels, region, size = regions.setdefault(key, ([], None, (None, None)))
        labels += [label for label in _labels(value) if label not in labels]
        if region is None and ("x" in value or "points" in value or "rle" in value):
            region, size = value, (result.get("original_width"), result.get("original_height"))
        regions[key] = (labels, region, size)
    yield from regions.values()


def _labels(value: dict[str, Any]) -> list[str]:
    """choices, or rectanglelabels, polygonlabels, labels ..."""
    found = []
    for key, item in value.items():
        if key == "choices" or key.endswith("labels"):
            texts = item if isinstance(item, list) else [item]
            found += [words(text) for text in texts]
    return [label for label in found if label]


def _add(
    image: str,
    labels: list[str],
    region: dict[str, Any] | None,
    size: tuple[Any, Any],
    file: str,
    number: int,
    gathered: Annotated,
) -> None:
    if region is None:
        for label in labels:
            gathered.add(image, label, file, number)
        return
    stated = stated_size(*size)
    box = _box(region, stated)
    if box is None or len(labels) != 1:
        reason = "is no rectangle, polygon or ellipse" if box is None else f"has {len(labels)} labels"
        gathered.bad(file, number, f"a region of {image} that {reason}")
    else:
        gathered.add(image, labels[0], file, number, box=box, convention=XYWH_PERCENT, size=stated)


def _box(region: dict[str, Any], size: tuple[int, int] | None) -> tuple[float, ...] | None:
    """x, y, width, height in percent of the image, around what is turned or round."""
    points = region.get("points")
    if isinstance(points, list):
        good = [point for point in (numbers(p) for p in points if isinstance(p, list)) if point and len(point) == 2]
        if len(good) != len(points) or len(good) < 3:
            return None
        x1, y1, x2, y2 = around(good)
        return x1, y1, x2 - x1, y2 - y1
    round_one = numbers(region.get(key) for key in ("x", "y", "radiusX", "radiusY"))
    if round_one is not None:
        x, y, across, down = round_one
        return x - across, y - down, 2 * across, 2 * down
    values = numbers(region.get(key) for key in ("x", "y", "width", "height"))
    angle = numbers([region.get("rotation") or 0])
    if values is None or angle is None:
        return None
    if not angle[0]:
        return values
    # It is turned in pixels: percent of width and height are of different length.
    width, height = size or (100, 100)
    x, y, across, down = (value * side / 100 for value, side in zip(values, (width, height) * 2, strict=True))
    x1, y1, x2, y2 = turned(x, y, across, down, angle[0])
    return x1 * 100 / width, y1 * 100 / height, (x2 - x1) * 100 / width, (y2 - y1) * 100 / height


# --- Records: JSON-MIN and CSV ---


def _read_records(file: str, records: list[tuple[int, dict[str, Any]]], gathered: Annotated) -> None:
    """A record for each annotation: columns of the data, and one for each control of the labelling interface."""
    where, columns = str(gathered.path(file)), gathered.source.options.columns
    images, examples = _examples(record for _, record in records)
    image_key = columns.get("image") or choose_attribute(images, None, where, "--columns image={}")
    if image_key is None:
        raise DataError(f"{where}: no column names images", hint="--columns image=...,label=...")
    examples.pop(image_key, None)
    label_key = choose_attribute(_controls(examples), columns.get("label"), where)
    for number, record in records:
        name = record.get(image_key)
        value = _value(record.get(label_key)) if label_key is not None else None
        if not isinstance(name, str) or not name:
            gathered.bad(file, number, f"{image_key} is empty")
        elif not value:
            gathered.problems.add("no-objects", gathered.where(file, number), name)
        elif (image := _find(name, file, number, gathered)) is not None:
            for item in value:
                if isinstance(item, dict):
                    labels, region = _labels(item), item if "x" in item or "points" in item else None
                    size = (item.get("original_width"), item.get("original_height"))
                    _add(image, labels, region, size, file, number, gathered)
                else:
                    gathered.add(image, words(item), file, number)


def _examples(records: Iterator[dict[str, Any]]) -> tuple[dict[str, str], dict[str, str]]:
    """Columns that name images, and all others that hold something, with a value of each."""
    images: dict[str, str] = {}
    others: dict[str, str] = {}
    for record in records:
        for key, value in record.items():
            if isinstance(value, str) and has_image_suffix(_plain(value)):
                images.setdefault(key, value)
            elif value not in (None, "", []) and key.lower() not in _OWN:
                others.setdefault(key, str(value)[:80])
    return images, others


def _controls(examples: dict[str, str]) -> dict[str, str]:
    """The columns that can be labels; `choice` and `label` are what the tool calls them unless told otherwise."""
    known = {key: value for key, value in examples.items() if key.lower() in ("choice", "label", "choices")}
    return known if len(known) == 1 else examples


def _value(value: Any) -> list[Any]:
    """A cell as the list that it stands for: a name, {"choices": [...]}, or regions."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            value = parse_json(value, "cell")
        except DataError:
            return [value]
    if isinstance(value, dict) and isinstance(value.get("choices"), list):
        return list(value["choices"])
    return value if isinstance(value, list) else [value] if value not in (None, "") else []


def _plain(name: str) -> str:
    """The path in an address of Label Studio's own: /data/local-files/?d=photos/1.jpg is photos/1.jpg."""
    if "local-files/?d=" in name:
        return urllib.parse.unquote(name.partition("?d=")[2].partition("&")[0])
    return plain_path(name)


def _find(name: str, file: str, number: int, gathered: Annotated) -> str | None:
    """The image of a task; uploaded ones may lie beside it by their own name, without what was put before it."""
    plain = _plain(name)
    base = plain.rpartition("/")[2]
    if gathered.tree.find(plain, gathered.near(file)).path is None and _UPLOAD.match(base):
        plain = base[9:] if gathered.tree.find(base[9:]).path is not None else plain
    return gathered.find(plain, file, number)


LABEL_STUDIO = Format(
    "labelstudio",
    "Label Studio: its JSON, JSON-MIN or CSV with the images beside; choices are labels of whole images, regions are "
    "images of their label",
    _detect,
    _read,
    ANNOTATIONS,
    frozenset(("image", "label")),
)
