"""FiftyOne: data/ with labels.json (image classification, detection) or samples.json (a whole data set)."""

from __future__ import annotations

from typing import Any

from shitu_cli.preparation.formats.boxes import XYWH_SHARE, numbers
from shitu_cli.preparation.formats.discovery import annotation_files
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.splits import split_of
from shitu_cli.preparation.formats.tool import AnnotationFile, ImageEntry, annotation_format, per_file
from shitu_cli.preparation.formats.values import label_text, list_of, object_of, objects


def _files(source: Source) -> list[str]:
    files = annotation_files(source, ".json")
    return [file for file in files if file.rpartition("/")[2] in ("labels.json", "samples.json")]


def _is_one(name: str, head: bytes) -> bool:
    return (b'"samples"' in head and b'"filepath"' in head) or (b'"classes"' in head and b'"labels"' in head)


def _read(file: AnnotationFile) -> None:
    value = object_of(file.json())
    if isinstance(value.get("labels"), dict):
        _read_labels(file, value)
    else:
        _read_samples(file, list(objects(value.get("samples"))))


def _read_labels(file: AnnotationFile, value: dict[str, Any]) -> None:
    """Read {"classes": [...], "labels": {image: class or [detections]}}."""
    file.annotations.units[file.name] = "label {}"
    classes = list_of(value.get("classes"))
    for number, (name, label) in enumerate(value["labels"].items()):
        image = file.find(name, number)
        if image is None:
            continue
        if not label and label != 0:
            image.empty()
        elif isinstance(label, list):
            _add_boxes(image, label, classes)
        else:
            image.label(_name(label, classes))


def _read_samples(file: AnnotationFile, samples: list[tuple[int, dict[str, Any]]]) -> None:
    """Read {"samples": [{"filepath", "tags", field: {"_cls": "Classification" or "Detections", ...}}]}."""
    examples: dict[str, str] = {}
    for _, sample in samples:
        for key, item in sample.items():
            if isinstance(item, dict) and item.get("_cls") in ("Classification", "Detections"):
                examples.setdefault(key, str(item.get("label") or item["_cls"]))
    if "ground_truth" in examples:  # beside it there are predictions
        examples = {"ground_truth": examples["ground_truth"]}
    field = file.choose(examples)
    for number, sample in samples:
        name, label = sample.get("filepath"), sample.get(field or "")
        split = next((s for tag in list_of(sample.get("tags")) if (s := split_of(label_text(tag)))), "")
        if not isinstance(name, str):
            file.bad(number, "it has no filepath")
        elif not isinstance(label, dict):
            file.empty(number, name)
        elif (image := file.find(name, number, split)) is not None:
            if label.get("_cls") == "Classification":
                image.label(label.get("label"))
            else:
                _add_boxes(image, list_of(label.get("detections")), [])


def _add_boxes(image: ImageEntry, detections: list[Any], classes: list[Any]) -> None:
    for item in map(object_of, detections):
        box = numbers(list_of(item.get("bounding_box")))
        otherwise = "a detection without bounding_box [x, y, width, height]"
        image.box(_name(item.get("label"), classes), box, XYWH_SHARE, otherwise)


def _name(label: Any, classes: list[Any]) -> str:
    """Return a class by its name or its place in the list."""
    is_number = isinstance(label, int) and not isinstance(label, bool)
    return label_text(classes[label] if is_number and 0 <= label < len(classes) else label)


FIFTYONE = annotation_format(
    "fiftyone",
    "FiftyOne: data/ with labels.json (classification or detection), or samples.json",
    tool="FiftyOne",
    files=_files,
    is_one=_is_one,
    read=per_file(_read, "samples[{}]"),
    needs="labels.json or samples.json of FiftyOne",
    columns=frozenset(("label",)),
)
