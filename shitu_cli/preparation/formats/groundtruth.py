"""SageMaker Ground Truth and Rekognition: a manifest with a JSON object in each line, images beside it."""

from __future__ import annotations

from typing import Any

from shitu_cli.preparation.formats.boxes import XYWH, numbers, stated_size
from shitu_cli.preparation.formats.text_files import read_json_lines
from shitu_cli.preparation.formats.tool import AnnotationFile, ImageEntry, annotation_format, files_ending, per_file
from shitu_cli.preparation.formats.values import label_text, list_of, object_of, objects


def _read(file: AnnotationFile) -> None:
    lines = list(read_json_lines(file.path, file.problems))
    examples: dict[str, str] = {}
    for _, value in lines:
        for key in value:
            if f"{key}-metadata" in value:
                examples.setdefault(key, str(value[key])[:80])
    label = file.choose(examples)
    for number, value in lines:
        name = value.get("source-ref")
        if not isinstance(name, str):
            file.bad(number, "no source-ref")
        elif label is None or label not in value:
            file.empty(number, name)
        elif (image := file.find(name, number)) is not None:
            _add(image, value[label], object_of(value.get(f"{label}-metadata")))


def _add(image: ImageEntry, value: Any, metadata: dict[str, Any]) -> None:
    """Add what one labelling job says: boxes, several labels, or one."""
    names = object_of(metadata.get("class-map"))
    if isinstance(value, dict):
        _add_boxes(image, value, names)
    elif isinstance(value, list):
        for item in value:
            image.label(label_text(names.get(label_text(item))) or item)
    else:
        image.label(label_text(metadata.get("class-name")) or value)


def _add_boxes(image: ImageEntry, value: dict[str, Any], names: dict[str, Any]) -> None:
    size = next((size for _, size in objects(value.get("image_size"))), {})
    image.size = stated_size(size.get("width"), size.get("height"))
    boxes = [object_of(item) for item in list_of(value.get("annotations"))]
    if not boxes:
        image.empty()
    for item in boxes:
        number = label_text(item.get("class_id"))
        box = numbers(item.get(key) for key in ("left", "top", "width", "height"))
        image.box(label_text(names.get(number)) or number, box, XYWH, "an annotation without left, top, width, height")


GROUND_TRUTH = annotation_format(
    "groundtruth",
    "SageMaker Ground Truth or Rekognition: a .manifest or .jsonl with source-ref in each line, images beside it",
    tool="SageMaker Ground Truth",
    files=files_ending(".manifest", ".jsonl", ".json", ".ndjson"),
    is_one=lambda name, head: b'"source-ref"' in head.partition(b"\n")[0],
    read=per_file(_read),
    needs="manifest with source-ref in its lines",
    columns=frozenset(("label",)),
)
