"""CVAT for images 1.1: one XML of images with boxes, polygons and tags."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from shitu_cli.errors import DataError
from shitu_cli.inputs import MIB
from shitu_cli.preparation.formats.boxes import (
    XYXY,
    Box,
    around_centre,
    around_points,
    around_size,
    numbers,
    stated_size,
)
from shitu_cli.preparation.formats.splits import split_of
from shitu_cli.preparation.formats.text_files import read_xml
from shitu_cli.preparation.formats.tool import AnnotationFile, annotation_format, files_ending, per_file

_NO_AREAS = ("attribute", "points", "polyline", "cuboid", "skeleton")


def _read(file: AnnotationFile) -> None:
    root = read_xml(file.path, limit=1024 * MIB)
    if root.find("track") is not None:
        raise DataError(
            f"{file.path}: it holds tracks of a video",
            hint="export the task from CVAT as `CVAT for images 1.1`, with images",
        )
    for number, item in enumerate(root.findall("image")):
        name, split = item.get("name") or "", split_of(item.get("subset") or "")
        if not len(item):
            file.find_empty(name, number)
            continue
        image = file.find(name, number, split, stated_size(item.get("width"), item.get("height")))
        for part in item if image is not None else ():
            assert image is not None
            if part.tag == "tag":
                image.label(part.get("label"))
            elif part.tag not in _NO_AREAS:
                otherwise = f"a {part.tag[:40]} whose place cannot be read ({name})"
                image.box(part.get("label"), _box(part), XYXY, otherwise)


def _box(part: ElementTree.Element) -> Box | None:
    """Return the box around a shape."""

    def values(*names: str) -> tuple[float, ...] | None:
        return numbers(part.get(name) or "" for name in names)

    if part.tag == "polygon":
        return around_points([pair.split(",") for pair in (part.get("points") or "").split(";")], 3)
    if part.tag == "box" and (corners := values("xtl", "ytl", "xbr", "ybr")):
        return corners[0], corners[1], corners[2], corners[3]
    if part.tag == "ellipse" and (ellipse := values("cx", "cy", "rx", "ry")):
        return around_centre(*ellipse)
    if part.tag == "mask" and (mask := values("left", "top", "width", "height")):
        return around_size(*mask)
    return None


CVAT = annotation_format(
    "cvat",
    "CVAT for images: an .xml of images with boxes (every box is an image of its label) or with one tag each",
    tool="CVAT",
    files=files_ending(".xml"),
    is_one=lambda name, head: b"<annotations" in head and (b"<image " in head or b"<track " in head),
    read=per_file(_read, "image {}"),
    needs=".xml of CVAT for images",
)
