"""CVAT for images 1.1: one XML of images with boxes, polygons and tags."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from shitu_cli.errors import DataError
from shitu_cli.inputs import MIB
from shitu_cli.preparation.formats.annotated import Annotated
from shitu_cli.preparation.formats.base import ANNOTATIONS, Format, Rows
from shitu_cli.preparation.formats.boxes import XYXY, around, numbers, stated_size
from shitu_cli.preparation.formats.discovery import annotation_files, head_and_tail, split_of, spread
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.values import words
from shitu_cli.preparation.formats.xml_files import read_xml
from shitu_cli.preparation.problems import Problems

_IGNORED = ("attribute", "points", "polyline", "cuboid", "skeleton")


def _files(source: Source) -> list[str]:
    files = spread(annotation_files(source, ".xml"))
    return [file for file in files if _is_cvat(head_and_tail(source.base / file))]


def _is_cvat(text: bytes) -> bool:
    return b"<annotations" in text and (b"<image " in text or b"<track " in text)


def _detect(source: Source) -> bool:
    return bool(_files(source))


def _read(source: Source, problems: Problems) -> Rows:
    gathered = Annotated(source, problems, "CVAT")
    files = _files(source)
    if not files:
        raise DataError(f"{source.path}: no .xml of CVAT for images")
    for file in files:
        root = read_xml(gathered.path(file), limit=1024 * MIB)
        if root.find("track") is not None:
            raise DataError(
                f"{gathered.path(file)}: it holds tracks of a video",
                hint="export the task from CVAT as `CVAT for images 1.1`, with images",
            )
        gathered.units[file] = "image {}"
        for number, item in enumerate(root.findall("image")):
            _read_image(item, file, number, gathered)
    return gathered.rows()


def _read_image(item: ElementTree.Element, file: str, number: int, gathered: Annotated) -> None:
    name, subset = item.get("name") or "", split_of(item.get("subset") or "")
    if not len(item):
        found = gathered.tree.find(name, gathered.near(file)).path
        if found is not None:
            gathered.listed.add(found)
            gathered.problems.add("no-objects", gathered.where(file, number), found)
        return
    image = gathered.find(name, file, number, subset)
    if image is None:
        return
    stated = stated_size(item.get("width"), item.get("height"))
    for part in item:
        label = words(part.get("label"))
        if part.tag == "tag":
            gathered.add(image, label, file, number, split=subset)
        elif part.tag not in _IGNORED:
            box = _box(part)
            if box is None:
                gathered.bad(file, number, f"a {part.tag[:40]} whose place cannot be read ({name})")
            else:
                gathered.add(image, label, file, number, split=subset, box=box, convention=XYXY, size=stated)


def _box(part: ElementTree.Element) -> tuple[float, ...] | None:
    """The box around a shape."""
    if part.tag == "box":
        return numbers(part.get(name) or "" for name in ("xtl", "ytl", "xbr", "ybr"))
    if part.tag == "polygon":
        points = [numbers(pair.split(",")) for pair in (part.get("points") or "").split(";")]
        good = [point for point in points if point is not None and len(point) == 2]
        return around(good) if len(good) == len(points) >= 3 else None
    if part.tag == "ellipse":
        values = numbers(part.get(name) or "" for name in ("cx", "cy", "rx", "ry"))
        return None if values is None else _about(*values)
    if part.tag == "mask":
        values = numbers(part.get(name) or "" for name in ("left", "top", "width", "height"))
        return None if values is None else (values[0], values[1], values[0] + values[2], values[1] + values[3])
    return None


def _about(x: float, y: float, across: float, down: float) -> tuple[float, ...]:
    return x - across, y - down, x + across, y + down


CVAT = Format(
    "cvat",
    "CVAT for images: an .xml of images with boxes (every box is an image of its label) or with one tag each",
    _detect,
    _read,
    ANNOTATIONS,
)
