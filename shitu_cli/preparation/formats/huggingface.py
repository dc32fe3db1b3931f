"""Hugging Face's imagefolder: metadata.csv or metadata.jsonl beside the images, at any level.

See https://huggingface.co/docs/datasets/image_dataset: `file_name` is relative to the folder of the metadata; boxes are
in `objects` as bbox x, y, width, height with their categories.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from shitu_cli.errors import DataError
from shitu_cli.inputs import parse_json, whole_number
from shitu_cli.inputs.yaml_files import parse_yaml
from shitu_cli.preparation.formats.annotations import Annotations
from shitu_cli.preparation.formats.base import whole_label
from shitu_cli.preparation.formats.boxes import XYWH, numbers
from shitu_cli.preparation.formats.delimited import header_of
from shitu_cli.preparation.formats.discovery import annotation_files
from shitu_cli.preparation.formats.encoding import read_list_text
from shitu_cli.preparation.formats.source import Source, bare_name
from shitu_cli.preparation.formats.tool import AnnotationFile, ImageEntry, annotation_format, per_file
from shitu_cli.preparation.formats.values import label_text, list_of, object_of

_NAME = "file_name"
_CATEGORIES = ("category", "categories", "label", "labels", "category_id", "class", "id_category")
Names = dict[str, list[str]]  # column → names of its numbers


def _files(source: Source) -> list[str]:
    """Return the files called metadata, whose column file_name is always the image."""
    if source.options.columns.get("image", _NAME) != _NAME:
        return []
    files = annotation_files(source, ".csv", ".jsonl")
    return [file for file in files if bare_name(file).lower() == "metadata"]


def _is_one(name: str, head: bytes) -> bool:
    return f'"{_NAME}"'.encode() in head if name.lower().endswith(".jsonl") else _NAME in header_of(head)


def _read(annotations: Annotations, files: Sequence[str]) -> None:
    names = _class_names(annotations)
    per_file(lambda file: _read_file(file, names))(annotations, files)


def _read_file(file: AnnotationFile, names: Names) -> None:
    records = file.records()
    examples: dict[str, str] = {}
    for _, record in records:
        for key, value in record.items():
            if key != _NAME and value not in (None, ""):
                examples.setdefault(key, str(value)[:80])
    boxed = "label" not in file.columns and "objects" in examples
    label = "objects" if boxed else file.choose(examples)
    if label is None:
        raise DataError(f"{file.path}: it has no column but {_NAME}: which class is each image?")
    for number, record in records:
        name, value = record.get(_NAME), record.get(label)
        if not isinstance(name, str) or not name.strip():
            file.bad(number, f"no {_NAME}")
        elif (image := file.find(name, number)) is not None:
            if boxed:
                _add_boxes(image, value, next((names[key] for key in names if key.startswith("objects")), []))
                continue
            if isinstance(value, str) and value.lstrip().startswith("["):
                value = _parsed(value)
            for item in value if isinstance(value, list) else [value]:
                image.label(_named(item, names.get(label, [])))


def _add_boxes(image: ImageEntry, value: Any, names: list[str]) -> None:
    """Add the boxes of {"bbox": [[x, y, w, h], ...], "categories": [...]}, or of a list of such objects."""
    value = _parsed(value) if isinstance(value, str) else value
    if isinstance(value, list):
        pairs = [(object_of(item).get("bbox"), _category(object_of(item))) for item in value]
    else:
        boxes, labels = list_of(object_of(value).get("bbox")), list_of(_category(object_of(value)))
        if len(labels) != len(boxes):
            image.bad(f"{len(boxes)} boxes and {len(labels)} categories")
            return
        pairs = list(zip(boxes, labels, strict=True))
    if not pairs:
        image.empty()
    for box, label in pairs:
        otherwise = f"bbox {str(box)[:60]}, expected [x, y, width, height]"
        image.box(_named(label, names), numbers(list_of(box)), XYWH, otherwise)


def _category(value: dict[str, Any]) -> Any:
    return next((value[key] for key in _CATEGORIES if key in value), None)


def _parsed(text: str) -> Any:
    try:
        return parse_json(text.replace("'", '"') if '"' not in text else text, "cell")
    except DataError:
        return text


def _named(value: Any, names: list[str]) -> str:
    """Return a label, or its name if it is a number and the README has names."""
    text = whole_label(label_text(value))
    number = whole_number(text)
    return names[number] if number is not None and number < len(names) else text


def _class_names(annotations: Annotations) -> Names:
    """Return the names of the class_label features in the head of README.md."""
    names: Names = {}
    if "README.md" not in annotations.source.tree.files:
        return names
    text = read_list_text(annotations.path("README.md"), annotations.problems)
    head = re.match(r"---\s*\n(.*?)\n---", text, re.S)
    try:
        info = object_of(parse_yaml(head[1], "README.md")).get("dataset_info") if head else None
    except DataError:
        return names
    for item in [info, *list_of(info)]:
        _collect(object_of(item).get("features"), "", names)
    return names


def _collect(features: Any, prefix: str, names: Names) -> None:
    """Go through features, lists and sequences of features."""
    for feature in map(object_of, features if isinstance(features, list) else [features]):
        name = f"{prefix}{label_text(feature.get('name'))}"
        for key in ("dtype", "sequence", "list", "struct"):
            inner = feature.get(key)
            labels = object_of(object_of(object_of(inner).get("class_label")).get("names"))
            if labels:
                names[name] = [label_text(labels[n]) for n in sorted(labels, key=lambda n: whole_number(str(n)) or 0)]
            elif isinstance(inner, (list, dict)):
                _collect(inner, f"{name}.", names)


HUGGING_FACE = annotation_format(
    "imagefolder",
    "Hugging Face: metadata.csv or .jsonl with file_name and a label (--columns label=NAME), or objects with bbox x,y,"
    "width,height and categories, in each split's folder or above them",
    tool="Hugging Face",
    files=_files,
    is_one=_is_one,
    read=_read,
    needs="metadata.csv or metadata.jsonl with file_name",
    columns=frozenset(("image", "label")),
)
