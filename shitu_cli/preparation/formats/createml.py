"""Create ML: a JSON list of images with boxes by their centre, or with the label of the whole image.

See https://developer.apple.com/documentation/createml/building-an-object-detector-data-source.
"""

from __future__ import annotations

from shitu_cli.preparation.formats.boxes import CXCYWH, numbers
from shitu_cli.preparation.formats.tool import AnnotationFile, annotation_format, files_ending, per_file
from shitu_cli.preparation.formats.values import list_of, object_of


def _is_one(name: str, head: bytes) -> bool:
    names_image = b'"image"' in head or b'"imagefilename"' in head
    return head.lstrip()[:1] == b"[" and names_image and b'"coordinates"' in head and b'"label"' in head


def _read(file: AnnotationFile) -> None:
    for number, item in enumerate(map(object_of, list_of(file.json()))):
        name = item.get("image") or item.get("imagefilename")
        if not isinstance(name, str):
            file.bad(number, "it names no image")
            continue
        image = file.find(name, number)
        if image is None:
            continue
        parts = item.get("annotations", item.get("annotation"))
        if isinstance(parts, str):
            image.label(parts)
            continue
        if not parts:
            image.empty()
        for part in map(object_of, list_of(parts)):
            place = object_of(part.get("coordinates"))
            values = numbers(place.get(key) for key in ("x", "y", "width", "height"))
            image.box(part.get("label"), values, CXCYWH, "an annotation without coordinates x, y, width, height")


CREATE_ML = annotation_format(
    "createml",
    "Create ML: .json lists of images with boxes (centre x, y, width, height); every box is an image of its label",
    tool="Create ML",
    files=files_ending(".json"),
    is_one=_is_one,
    read=per_file(_read, "entry {}"),
    needs=".json list of images with annotations",
)
