"""FiftyOne: data/ with labels.json (image classification, detection) or samples.json (a whole data set)."""

from __future__ import annotations

from typing import Any

from shitu_cli.errors import DataError
from shitu_cli.inputs import read_json
from shitu_cli.preparation.formats.annotated import Annotated
from shitu_cli.preparation.formats.base import ANNOTATIONS, Format, Rows
from shitu_cli.preparation.formats.boxes import XYWH_SHARE, numbers
from shitu_cli.preparation.formats.discovery import JSON_LIMIT, annotation_files, head_and_tail, split_of
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.values import choose_attribute, entries, list_of, words
from shitu_cli.preparation.problems import Problems


def _files(source: Source) -> list[str]:
    found = []
    for file in annotation_files(source, ".json"):
        name = file.rpartition("/")[2]
        if name not in ("labels.json", "samples.json"):
            continue
        text = head_and_tail(source.base / file)
        if (b'"samples"' in text and b'"filepath"' in text) or (b'"classes"' in text and b'"labels"' in text):
            found.append(file)
    return found


def _detect(source: Source) -> bool:
    return bool(_files(source))


def _read(source: Source, problems: Problems) -> Rows:
    gathered = Annotated(source, problems, "FiftyOne")
    files = _files(source)
    if not files:
        raise DataError(f"{source.path}: no labels.json or samples.json of FiftyOne")
    for file in files:
        value = read_json(gathered.path(file), limit=JSON_LIMIT)
        if isinstance(value, dict) and isinstance(value.get("labels"), dict):
            gathered.units[file] = "label {}"
            _read_labels(file, value, gathered)
        else:
            gathered.units[file] = "samples[{}]"
            _read_samples(file, value, gathered)
    return gathered.rows()


def _read_labels(file: str, value: dict[str, Any], gathered: Annotated) -> None:
    """{"classes": [...], "labels": {image: class or [detections]}}"""
    classes = list_of(value.get("classes"))
    for number, (name, label) in enumerate(value["labels"].items()):
        image = gathered.find(name, file, number)
        if image is None:
            continue
        if not label and label != 0:
            gathered.problems.add("no-objects", gathered.where(file, number), image)
        elif isinstance(label, list):
            for item in label:
                _add(image, item, classes, "", file, number, gathered)
        else:
            gathered.add(image, _name(label, classes), file, number)


def _read_samples(file: str, value: Any, gathered: Annotated) -> None:
    """{"samples": [{"filepath", "tags", field: {"_cls": "Classification" or "Detections", ...}}]}"""
    examples: dict[str, str] = {}
    for _, sample in entries(value, "samples"):
        for key, item in sample.items():
            if isinstance(item, dict) and item.get("_cls") in ("Classification", "Detections"):
                examples.setdefault(key, str(item.get("label") or item["_cls"]))
    if "ground_truth" in examples:  # beside it there are predictions
        examples = {"ground_truth": examples["ground_truth"]}
    field = choose_attribute(examples, gathered.source.options.columns.get("label"), str(gathered.path(file)))
    for number, sample in entries(value, "samples"):
        name, label = sample.get("filepath"), sample.get(field or "")
        if not isinstance(name, str):
            gathered.bad(file, number, "it has no filepath")
        elif not isinstance(label, dict):
            gathered.problems.add("no-objects", gathered.where(file, number), name)
        elif (image := gathered.find(name, file, number)) is not None:
            split = next((s for tag in list_of(sample.get("tags")) if (s := split_of(words(tag)))), "")
            if label.get("_cls") == "Classification":
                gathered.add(image, words(label.get("label")), file, number, split=split)
            else:
                for _, item in entries(label, "detections"):
                    _add(image, item, [], split, file, number, gathered)


def _add(image: str, item: Any, classes: list[Any], split: str, file: str, number: int, gathered: Annotated) -> None:
    box = item.get("bounding_box") if isinstance(item, dict) else None
    values = numbers(box) if isinstance(box, list) else None
    if values is None or len(values) != 4:
        gathered.bad(file, number, "a detection without bounding_box [x, y, width, height]")
    else:
        label = _name(item.get("label"), classes)
        gathered.add(image, label, file, number, split=split, box=values, convention=XYWH_SHARE)


def _name(label: Any, classes: list[Any]) -> str:
    """A class by its name or its place in the list."""
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(classes):
        return words(classes[label])
    return words(label)


FIFTYONE = Format(
    "fiftyone",
    "FiftyOne: data/ with labels.json (classification or detection), or samples.json",
    _detect,
    _read,
    ANNOTATIONS,
    frozenset(("label",)),
)
