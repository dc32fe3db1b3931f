"""Pascal VOC: an XML of objects for each image, as LabelImg, CVAT and Roboflow write it too."""

from __future__ import annotations

import math
import posixpath
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence

from shitu_cli.preparation.formats.annotations import Annotations
from shitu_cli.preparation.formats.boxes import XYXY, around_centre, around_flat, numbers, stated_size
from shitu_cli.preparation.formats.discovery import annotation_files
from shitu_cli.preparation.formats.source import Source, bare_name, fold, plain_path
from shitu_cli.preparation.formats.splits import split_of
from shitu_cli.preparation.formats.text_files import read_lines, read_xml
from shitu_cli.preparation.formats.tool import AnnotationFile, annotation_format, per_file

_ROOT = re.compile(rb"<annotation[\s>]")
_MAIN = re.compile(r"(?:^|.*/)ImageSets/Main/[^/]+\.txt", re.I)
_PAIR = re.compile(r".+\.\w+[\s,]+(.+\.xml)")
_SETS = ("train", "val", "test", "trainval")
_LISTS = ("train.txt", "trainval.txt", "val.txt", "valid.txt", "test.txt", "eval.txt", "train_list.txt", "val_list.txt")


def _files(source: Source) -> list[str]:
    """Return the XML files; files without a suffix count where they are annotations (Stanford Dogs)."""
    return annotation_files(source, ".xml") or annotation_files(source, "")


def _read(annotations: Annotations, files: Sequence[str]) -> None:
    splits = _splits(annotations)
    per_file(lambda file: _read_image(file, splits), "object {}")(annotations, files)


def _read_image(file: AnnotationFile, splits: dict[str, str]) -> None:
    root = read_xml(file.path)
    if root.tag != "annotation":
        return  # settings of a tool, the metadata of a camera
    size = stated_size(root.findtext("size/width"), root.findtext("size/height"))
    image = file.own_image(root.findtext("filename") or "", size=size)
    if image is None:
        return
    if splits:
        image.split = splits.get(_key(file.name)) or splits.get(_key(image.path)) or ""
        if not image.split:
            file.problems.add("unlisted", str(file.path), f"{image.path} is in no list of a split")
            return
    objects = root.findall("object")
    if not objects:
        file.problems.add("no-objects", str(file.path), image.path)
    for number, item in enumerate(objects, 1):
        image.box(item.findtext("name"), _box(item), XYXY, "it has no bndbox with xmin, ymin, xmax, ymax", number)


def _box(item: ElementTree.Element) -> Sequence[float] | None:
    box, turned, polygon = item.find("bndbox"), item.find("robndbox"), item.find("polygon")
    if box is not None:
        values = numbers(box.findtext(name) or "" for name in ("xmin", "ymin", "xmax", "ymax"))
        if values is not None:
            return values
    if turned is not None:  # of roLabelImg
        values = numbers(turned.findtext(name) or "" for name in ("cx", "cy", "w", "h", "angle"))
        if values is None:
            return None
        x, y, width, height, angle = values
        cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
        return around_centre(x, y, (width * cos + height * sin) / 2, (width * sin + height * cos) / 2)
    return around_flat(numbers(child.text or "" for child in polygon), 3) if polygon is not None else None


# --- Lists of splits ---


def _splits(annotations: Annotations) -> dict[str, str]:
    """Return the split of each image by its key, of ImageSets/Main or of lists `image annotation` as Paddle has."""
    if annotations.source.path.is_file():
        return {}
    main = {file: bare_name(file).lower() for file in annotations.source.tree.files if _MAIN.fullmatch(file)}
    sets = {file: split for file, split in main.items() if split in _SETS}
    if {"train", "val"} & set(sets.values()):  # trainval is both of them
        sets = {file: split for file, split in sets.items() if split != "trainval"}
    lists = [(file, "train" if split == "trainval" else split, _named) for file, split in sorted(sets.items())]
    if not lists:
        files = [file for file in annotations.source.tree.files if posixpath.basename(file).lower() in _LISTS]
        lists = [(file, split_of(posixpath.basename(file)), _paired) for file in files]
    splits: dict[str, str] = {}
    for file, split, keys in lists:
        for number, line in read_lines(annotations.path(file), annotations.problems):
            for key in keys(file, line):
                if splits.setdefault(key, split) != split:
                    detail = f"{key} is listed as {splits[key]} too"
                    annotations.problems.add("bad-annotation", annotations.where(file, number), detail)
    return splits


def _named(file: str, line: str) -> Iterator[str]:
    """Yield the key of a line of ImageSets/Main: a name, in lists of one class followed by 1, -1 or 0."""
    name, _, flag = line.rpartition(" ")
    yield file.lower().rpartition("imagesets/main")[0] + fold(name.strip() if flag in ("1", "-1", "0") else line)


def _paired(file: str, line: str) -> Iterator[str]:
    """Yield the key of a line that names an image and its XML."""
    if match := _PAIR.fullmatch(line):
        yield _key(posixpath.normpath(posixpath.join(posixpath.dirname(file), plain_path(match[1]))))


def _key(path: str) -> str:
    """Return a key common to an image and its annotation: voc2007/1 for VOC2007/Annotations/1.xml and
    VOC2007/JPEGImages/1.jpg."""
    above = posixpath.dirname(posixpath.dirname(path))
    return fold(posixpath.join(above, bare_name(path)))


VOC = annotation_format(
    "voc",
    "Pascal VOC or LabelImg: an .xml of objects for each image, beside it or in Annotations/; splits of "
    "ImageSets/Main/, of lists `image xml`, or of folders; every box is an image of its class",
    tool="Pascal VOC",
    files=_files,
    is_one=lambda name, head: _ROOT.search(head[:4096]) is not None,
    read=_read,
    needs=".xml files",
    per_image=True,
)
