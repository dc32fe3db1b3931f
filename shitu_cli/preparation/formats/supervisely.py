"""Supervisely: <dataset>/ann/<image>.json of objects and tags beside <dataset>/img/, meta.json with the classes."""

from __future__ import annotations

from typing import Any

from shitu_cli.errors import DataError
from shitu_cli.inputs import MIB, read_json
from shitu_cli.preparation.formats.annotated import Annotated
from shitu_cli.preparation.formats.base import ANNOTATIONS, Box, Format, Rows
from shitu_cli.preparation.formats.boxes import XYXY, around, numbers, stated_size
from shitu_cli.preparation.formats.discovery import annotation_files, head_and_tail, split_of, spread
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.values import entries, object_of, words
from shitu_cli.preparation.problems import Problems


def _files(source: Source) -> list[str]:
    return [file for file in annotation_files(source, ".json") if "ann" in file.split("/")[:-1]]


def _detect(source: Source) -> bool:
    texts = [head_and_tail(source.base / file) for file in spread(_files(source))]
    return any(b'"objects"' in text and b'"size"' in text and b'"tags"' in text for text in texts)


def _read(source: Source, problems: Problems) -> Rows:
    gathered = Annotated(source, problems, "Supervisely", per_image=True)
    files = _files(source)
    if not files:
        raise DataError(f"{source.path}: no ann/*.json")
    for file in files:
        gathered.units[file] = "objects[{}]"
        try:
            value = read_json(gathered.path(file), limit=256 * MIB)
        except DataError as error:
            problems.add("bad-annotation", error.message)
            continue
        if isinstance(value, dict):
            _read_image(file, value, gathered)
    return gathered.rows()


def _read_image(file: str, value: dict[str, Any], gathered: Annotated) -> None:
    image = gathered.settle(gathered.pair(file), file, file, 0)
    if image is None:
        return
    size = object_of(value.get("size"))
    stated = stated_size(size.get("width"), size.get("height"))
    tags = [words(tag.get("name")) for _, tag in entries(value, "tags")]
    split = next((split for tag in tags if (split := split_of(tag)) == tag.lower()), "")
    labels = [tag for tag in tags if split_of(tag) != tag.lower()]
    objects = list(entries(value, "objects"))
    if not objects and not labels:
        gathered.problems.add("no-objects", str(gathered.path(file)), image)
    for label in labels if not objects else ():  # beside objects they tell of the scene
        gathered.add(image, label, file, 0, split=split)
    for number, item in objects:
        box = _box(item)
        if box is None:
            gathered.bad(file, number, f"a {str(item.get('geometryType'))[:40]} without an area")
        else:
            label = words(item.get("classTitle"))
            gathered.add(image, label, file, number, split=split, box=box, convention=XYXY, size=stated)


def _box(item: dict[str, Any]) -> Box | None:
    """The box around an object; of a bitmap only its corner is known without unpacking it."""
    if item.get("geometryType") not in ("rectangle", "polygon"):
        return None
    points = item.get("points")
    outside = points.get("exterior") if isinstance(points, dict) else None
    good = [numbers(point) for point in outside if isinstance(point, list)] if isinstance(outside, list) else []
    whole = [point for point in good if point is not None and len(point) == 2]
    return around(whole) if len(whole) == len(good) >= 2 else None


SUPERVISELY = Format(
    "supervisely",
    "Supervisely or Dataset Ninja: <dataset>/img/ with <dataset>/ann/<image>.json; every object is an image of its "
    "class, or the one tag is the label of the image",
    _detect,
    _read,
    ANNOTATIONS,
)
