"""Hugging Face's imagefolder: metadata.csv or metadata.jsonl beside the images, at any level.

See https://huggingface.co/docs/datasets/image_dataset: `file_name` counts from the folder of the metadata; boxes stand
in `objects` as bbox x, y, width, height with their categories.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from shitu_cli.errors import DataError
from shitu_cli.inputs import MIB, parse_json, whole_number
from shitu_cli.inputs.yaml_files import parse_yaml
from shitu_cli.preparation.formats.annotated import Annotated
from shitu_cli.preparation.formats.base import ANNOTATIONS, Format, Rows, read_text
from shitu_cli.preparation.formats.boxes import XYWH, numbers
from shitu_cli.preparation.formats.csv_files import header_of, read_csv
from shitu_cli.preparation.formats.discovery import annotation_files, head_and_tail
from shitu_cli.preparation.formats.jsonl_files import read_json_lines
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.values import choose_attribute, list_of, object_of, words
from shitu_cli.preparation.problems import Problems

_NAME = "file_name"
_CATEGORIES = ("category", "categories", "label", "labels", "category_id", "class", "id_category")


def _files(source: Source) -> list[str]:
    """The files called metadata that have the column file_name, which is the image whatever else there is."""
    if source.options.columns.get("image", _NAME) != _NAME:
        return []
    files = [
        file
        for file in annotation_files(source, ".csv", ".jsonl", ".json")
        if posixpath.splitext(posixpath.basename(file))[0].lower() == "metadata" and not file.endswith(".json")
    ]
    return [file for file in files if _has_name(source.base / file)]


def _has_name(path: Path) -> bool:
    if path.suffix.lower() == ".jsonl":
        return f'"{_NAME}"'.encode() in head_and_tail(path)
    return _NAME in header_of(path)


def _detect(source: Source) -> bool:
    return bool(_files(source))


def _read(source: Source, problems: Problems) -> Rows:
    gathered = Annotated(source, problems, "Hugging Face")
    files = _files(source)
    if not files:
        raise DataError(f"{source.path}: no metadata.csv or metadata.jsonl with file_name")
    names = _class_names(gathered)
    for file in files:
        _read_file(file, names, gathered)
    return gathered.rows()


def _records(file: str, gathered: Annotated) -> list[tuple[int, dict[str, Any]]]:
    if file.lower().endswith(".jsonl"):
        return list(read_json_lines(gathered.path(file), gathered.problems))
    header, rows = read_csv(gathered.path(file), gathered.problems)
    return [(line, dict(zip(header, cells, strict=True))) for line, cells in rows]


def _read_file(file: str, names: dict[str, list[str]], gathered: Annotated) -> None:
    records, where = _records(file, gathered), str(gathered.path(file))
    examples: dict[str, str] = {}
    for _, record in records:
        for key, value in record.items():
            if key != _NAME and value not in (None, ""):
                examples.setdefault(key, str(value)[:80])
    given = gathered.source.options.columns.get("label")
    boxed = given is None and "objects" in examples
    label = "objects" if boxed else choose_attribute(examples, given, where)
    if label is None:
        raise DataError(f"{where}: it has no column but {_NAME}: which class is each image?")
    for number, record in records:
        name = record.get(_NAME)
        if not isinstance(name, str) or not name.strip():
            gathered.bad(file, number, f"no {_NAME}")
            continue
        image = gathered.find(name, file, number)
        if image is None:
            continue
        if boxed:
            _add_objects(image, record.get("objects"), names, file, number, gathered)
            continue
        value = record.get(label)
        if isinstance(value, str) and value.lstrip().startswith("["):
            value = _parsed(value)
        for item in value if isinstance(value, list) else [value]:
            gathered.add(image, _named(item, names.get(label)), file, number)


def _add_objects(
    image: str, value: Any, names: dict[str, list[str]], file: str, number: int, gathered: Annotated
) -> None:
    """The boxes of an image: {"bbox": [[x, y, w, h], ...], "categories": [...]}, or a list of such objects."""
    value = _parsed(value) if isinstance(value, str) else value
    if isinstance(value, list):
        found = [(object_of(item).get("bbox"), _first(object_of(item))) for item in value]
    else:
        boxes, key = list_of(object_of(value).get("bbox")), _key(object_of(value))
        labels = list_of(object_of(value).get(key or ""))
        if len(labels) != len(boxes):
            gathered.bad(file, number, f"{len(boxes)} boxes and {len(labels)} categories")
            return
        found = list(zip(boxes, labels, strict=True))
    if not found:
        gathered.problems.add("no-objects", gathered.where(file, number), image)
    for box, label in found:
        values = numbers(list_of(box))
        if values is None or len(values) != 4:
            gathered.bad(file, number, f"bbox {str(box)[:60]}, expected [x, y, width, height]")
        else:
            known = next((names[key] for key in names if key.startswith("objects")), None)
            gathered.add(image, _named(label, known), file, number, box=values, convention=XYWH)


def _key(value: dict[str, Any]) -> str | None:
    return next((key for key in _CATEGORIES if key in value), None)


def _first(value: dict[str, Any]) -> Any:
    key = _key(value)
    return value[key] if key is not None else None


def _parsed(text: str) -> Any:
    try:
        return parse_json(text.replace("'", '"') if '"' not in text else text, "cell")
    except DataError:
        return text


def _named(value: Any, names: list[str] | None) -> str:
    """A label, by its name where it is a number and the README tells the names."""
    text = words(value)
    number = whole_number(text)
    return names[number] if names and number is not None and number < len(names) else text


def _class_names(gathered: Annotated) -> dict[str, list[str]]:
    """Column → names of its numbers, of the class_label features in the head of README.md."""
    found: dict[str, list[str]] = {}
    if "README.md" not in gathered.source.tree.files:
        return found
    text = read_text(gathered.path("README.md"), gathered.problems)[: 4 * MIB]
    head = re.match(r"---\s*\n(.*?)\n---", text, re.S)
    try:
        value = object_of(parse_yaml(head[1], "README.md")) if head else {}
    except DataError:
        return found
    info = value.get("dataset_info")
    _collect(object_of(info).get("features") or [object_of(i).get("features") for i in list_of(info)], "", found)
    return found


def _collect(features: Any, prefix: str, found: dict[str, list[str]]) -> None:
    """Go through features, lists and sequences of features."""
    if isinstance(features, list):
        for item in features:
            _collect(item, prefix, found)
        return
    feature = object_of(features)
    name = f"{prefix}{words(feature.get('name'))}"
    for key in ("dtype", "sequence", "list", "struct"):
        inner = feature.get(key)
        names = object_of(object_of(object_of(inner).get("class_label")).get("names"))
        if names:
            found[name] = [words(names[number]) for number in sorted(names, key=lambda n: whole_number(str(n)) or 0)]
        elif isinstance(inner, (list, dict)):
            _collect(inner, f"{name}.", found)


HUGGING_FACE = Format(
    "imagefolder",
    "Hugging Face: metadata.csv or .jsonl with file_name and a label (--columns label=NAME), or objects with bbox x,y,"
    "width,height and categories, in each split's folder or above them",
    _detect,
    _read,
    ANNOTATIONS,
    frozenset(("image", "label")),
)
