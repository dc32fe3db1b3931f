"""Create ML: a JSON list of images with boxes by their centre, or with the label of the whole image.

See https://developer.apple.com/documentation/createml/building-an-object-detector-data-source.
"""

from __future__ import annotations

from typing import Any

from shitu_cli.errors import DataError
from shitu_cli.inputs import read_json
from shitu_cli.preparation.formats.annotated import Annotated
from shitu_cli.preparation.formats.base import ANNOTATIONS, Format, Rows
from shitu_cli.preparation.formats.boxes import CXCYWH, numbers
from shitu_cli.preparation.formats.discovery import JSON_LIMIT, annotation_files, head_and_tail, spread
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.values import words
from shitu_cli.preparation.problems import Problems


def _files(source: Source) -> list[str]:
    found = []
    for file in spread(annotation_files(source, ".json")):
        text = head_and_tail(source.base / file)
        names_image = b'"image"' in text or b'"imagefilename"' in text
        if text.lstrip()[:1] == b"[" and names_image and b'"coordinates"' in text and b'"label"' in text:
            found.append(file)
    return found


def _detect(source: Source) -> bool:
    return bool(_files(source))


def _read(source: Source, problems: Problems) -> Rows:
    gathered = Annotated(source, problems, "Create ML")
    files = _files(source)
    if not files:
        raise DataError(f"{source.path}: no .json list of images with annotations")
    for file in files:
        gathered.units[file] = "entry {}"
        value = read_json(gathered.path(file), limit=JSON_LIMIT)
        for number, item in enumerate(value if isinstance(value, list) else []):
            _read_image(item, file, number, gathered)
    return gathered.rows()


def _read_image(item: Any, file: str, number: int, gathered: Annotated) -> None:
    name = (item.get("image") or item.get("imagefilename")) if isinstance(item, dict) else None
    if not isinstance(name, str):
        gathered.bad(file, number, "it names no image")
        return
    image = gathered.find(name, file, number)
    if image is None:
        return
    objects = item.get("annotations", item.get("annotation"))
    if isinstance(objects, str):
        gathered.add(image, words(objects), file, number)
        return
    if not objects:
        gathered.problems.add("no-objects", gathered.where(file, number), image)
    for part in objects if isinstance(objects, list) else []:
        place = part.get("coordinates") if isinstance(part, dict) else None
        keys = ("x", "y", "width", "height")
        values = numbers(place.get(key) for key in keys) if isinstance(place, dict) else None
        if values is None:
            gathered.bad(file, number, "an annotation without coordinates x, y, width, height")
        else:
            gathered.add(image, words(part.get("label")), file, number, box=values, convention=CXCYWH)


CREATE_ML = Format(
    "createml",
    "Create ML: .json lists of images with boxes (centre x, y, width, height); every box is an image of its label",
    _detect,
    _read,
    ANNOTATIONS,
)
