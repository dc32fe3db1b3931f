"""SageMaker Ground Truth and Rekognition: a manifest with a JSON object in each line, images beside it."""

from __future__ import annotations

from typing import Any

from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.annotated import Annotated
from shitu_cli.preparation.formats.base import ANNOTATIONS, Format, Rows
from shitu_cli.preparation.formats.boxes import XYWH, numbers, stated_size
from shitu_cli.preparation.formats.discovery import annotation_files, head_and_tail, split_of
from shitu_cli.preparation.formats.jsonl_files import read_json_lines
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.values import choose_attribute, list_of, object_of, words
from shitu_cli.preparation.problems import Problems

_SUFFIXES = (".manifest", ".jsonl", ".json", ".ndjson")


def _files(source: Source) -> list[str]:
    files = annotation_files(source, *_SUFFIXES)[:1000]
    return [file for file in files if b'"source-ref"' in head_and_tail(source.base / file).partition(b"\n")[0]]


def _detect(source: Source) -> bool:
    return bool(_files(source))


def _read(source: Source, problems: Problems) -> Rows:
    gathered = Annotated(source, problems, "SageMaker Ground Truth")
    files = _files(source)
    if not files:
        raise DataError(f"{source.path}: no manifest with source-ref in its lines")
    for file in files:
        _read_file(file, "" if source.path.is_file() else split_of(file), gathered)
    return gathered.rows()


def _read_file(file: str, split: str, gathered: Annotated) -> None:
    lines = list(read_json_lines(gathered.path(file), gathered.problems))
    examples: dict[str, str] = {}
    for _, value in lines:
        for key in value:
            if f"{key}-metadata" in value:
                examples.setdefault(key, str(value[key])[:80])
    label = choose_attribute(examples, gathered.source.options.columns.get("label"), str(gathered.path(file)))
    for number, value in lines:
        name = value.get("source-ref")
        if not isinstance(name, str):
            gathered.bad(file, number, "no source-ref")
        elif label is None or label not in value:
            gathered.problems.add("no-objects", gathered.where(file, number), name)
        elif (image := gathered.find(name, file, number, split)) is not None:
            _add(image, value[label], value.get(f"{label}-metadata"), file, number, split, gathered)


def _add(image: str, value: Any, metadata: Any, file: str, number: int, split: str, gathered: Annotated) -> None:
    about = object_of(metadata)
    names = object_of(about.get("class-map"))
    if isinstance(value, dict):
        _add_boxes(image, value, names, file, number, split, gathered)
    elif isinstance(value, list):  # several labels
        for item in value:
            gathered.add(image, words(names.get(words(item))) or words(item), file, number, split=split)
    else:
        gathered.add(image, words(about.get("class-name")) or words(value), file, number, split=split)


def _add_boxes(
    image: str, value: dict[str, Any], names: dict[str, Any], file: str, number: int, split: str, gathered: Annotated
) -> None:
    first = object_of(next(iter(list_of(value.get("image_size"))), None))
    objects = list_of(value.get("annotations"))
    if not objects:
        gathered.problems.add("no-objects", gathered.where(file, number), image)
    for item in objects:
        box = numbers(item.get(key) for key in ("left", "top", "width", "height")) if isinstance(item, dict) else None
        if box is None:
            gathered.bad(file, number, "an annotation without left, top, width, height")
            continue
        key = words(item.get("class_id"))
        label = words(names.get(key)) or key
        size = stated_size(first.get("width"), first.get("height"))
        gathered.add(image, label, file, number, split=split, box=box, convention=XYWH, size=size)


GROUND_TRUTH = Format(
    "groundtruth",
    "SageMaker Ground Truth or Rekognition: a .manifest or .jsonl with source-ref in each line, images beside it",
    _detect,
    _read,
    ANNOTATIONS,
    frozenset(("label",)),
)
