"""Pascal VOC: an XML of objects for each image, as LabelImg, CVAT and Roboflow write it too."""

from __future__ import annotations

import math
import posixpath
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.annotated import Annotated
from shitu_cli.preparation.formats.base import ANNOTATIONS, Format, Rows, lines_of, read_text
from shitu_cli.preparation.formats.boxes import XYXY, around, numbers, stated_size
from shitu_cli.preparation.formats.discovery import annotation_files, head_and_tail, split_of, spread
from shitu_cli.preparation.formats.source import Source, fold, plain_path
from shitu_cli.preparation.formats.values import words
from shitu_cli.preparation.formats.xml_files import read_xml
from shitu_cli.preparation.problems import Problems

_ROOT = re.compile(rb"<annotation[\s>]")
_SETS = ("train", "val", "test", "trainval")
_LISTS = ("train.txt", "trainval.txt", "val.txt", "valid.txt", "test.txt", "eval.txt", "train_list.txt", "val_list.txt")


def _files(source: Source) -> list[str]:
    """The XML files; files without a suffix count where they are annotations (Stanford Dogs)."""
    return annotation_files(source, ".xml") or annotation_files(source, "")


def _detect(source: Source) -> bool:
    return any(_ROOT.search(head_and_tail(source.base / file)[:4096]) for file in spread(_files(source)))


def _read(source: Source, problems: Problems) -> Rows:
    gathered = Annotated(source, problems, "Pascal VOC", per_image=True)
    splits = _splits(gathered)
    files = _files(source)
    if not files:
        raise DataError(f"{source.path}: no .xml files")
    for file in files:
        _read_file(file, splits, gathered)
    return gathered.rows()


def _read_file(file: str, splits: dict[str, str], gathered: Annotated) -> None:
    path = gathered.path(file)
    gathered.units[file] = "object {}"
    try:
        root = read_xml(path)
    except DataError as error:
        gathered.problems.add("bad-annotation", error.message)
        return
    if root.tag != "annotation":
        return  # settings of a tool, the metadata of a camera
    image = gathered.image_of(file, root.findtext("filename") or "")
    if image is None:
        return
    split = ""
    if splits:
        split = splits.get(_stem_key(file)) or splits.get(_stem_key(image)) or ""
        if not split:
            gathered.problems.add("unlisted", str(path), f"{image} is in no list of a split")
            return
    size = stated_size(root.findtext("size/width"), root.findtext("size/height"))
    objects = root.findall("object")
    if not objects:
        gathered.problems.add("no-objects", str(path), image)
    for number, item in enumerate(objects, 1):
        box = _box(item)
        if box is None:
            gathered.bad(file, number, "it has no bndbox with xmin, ymin, xmax, ymax")
        else:
            label = words(item.findtext("name") or "")
            gathered.add(image, label, file, number, split=split, box=box, convention=XYXY, size=size)


def _box(item: ElementTree.Element) -> tuple[float, ...] | None:
    box = item.find("bndbox")
    if box is not None:
        values = numbers(box.findtext(name) or "" for name in ("xmin", "ymin", "xmax", "ymax"))
        if values is not None:
            return values
    turned = item.find("robndbox")  # of roLabelImg
    if turned is not None:
        return _turned(turned)
    polygon = item.find("polygon")
    points = numbers(child.text or "" for child in polygon) if polygon is not None else None
    if points and len(points) >= 6 and len(points) % 2 == 0:
        return around(list(zip(points[::2], points[1::2], strict=True)))
    return None


def _turned(item: ElementTree.Element) -> tuple[float, ...] | None:
    values = numbers(item.findtext(name) or "" for name in ("cx", "cy", "w", "h", "angle"))
    if values is None:
        return None
    x, y, width, height, angle = values
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    across, down = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    return x - across, y - down, x + across, y + down


# --- Lists of splits ---


def _splits(gathered: Annotated) -> dict[str, str]:
    """Stem, with what is above its folder → split: of ImageSets/Main, or of lists `image annotation` as Paddle has."""
    source = gathered.source
    if source.path.is_file():
        return {}
    main = [file for file in source.tree.files if re.search(r"(^|/)ImageSets/Main/[^/]+\.txt$", file, re.I)]
    own = {file: _stem(file).lower() for file in main if _stem(file).lower() in _SETS}
    if any(split in ("train", "val") for split in own.values()):  # trainval is both of them
        own = {file: split for file, split in own.items() if split != "trainval"}
    splits: dict[str, str] = {}
    for file, split in sorted(own.items()):
        above = file.lower().rpartition("imagesets/main")[0]
        for number, line in _lines(gathered.path(file), gathered.problems):
            stem = line if (key := f"{above}{fold(line)}") else ""
            parts = stem.rsplit(None, 1)
            if len(parts) == 2 and parts[1] in ("1", "-1", "0"):
                key = f"{above}{fold(parts[0])}"
            _note(splits, key, "train" if split == "trainval" else split, f"{gathered.path(file)}:{number}", gathered)
    return splits or _paired_lists(gathered)


def _paired_lists(gathered: Annotated) -> dict[str, str]:
    """The splits of lists whose lines name an image and its XML."""
    splits: dict[str, str] = {}
    for file in gathered.source.tree.files:
        if posixpath.basename(file).lower() not in _LISTS:
            continue
        for number, line in _lines(gathered.path(file), gathered.problems):
            match = re.fullmatch(r"(.+\.\w+)[\s,]+(.+\.xml)", line)
            if match:
                whole = posixpath.normpath(posixpath.join(posixpath.dirname(file), plain_path(match[2])))
                split = split_of(posixpath.basename(file))
                _note(splits, _stem_key(whole), split, f"{gathered.path(file)}:{number}", gathered)
    return splits


def _note(splits: dict[str, str], key: str, split: str, where: str, gathered: Annotated) -> None:
    if splits.setdefault(key, split) != split:
        gathered.problems.add("bad-annotation", where, f"{key} is listed as {splits[key]} too")


def _lines(path: Path, problems: Problems) -> list[tuple[int, str]]:
    lines = enumerate(lines_of(read_text(path, problems)), 1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0]


def _stem_key(path: str) -> str:
    """VOC2007/Annotations/1.xml and VOC2007/JPEGImages/1.jpg: voc2007/1."""
    above = posixpath.dirname(posixpath.dirname(path))
    return fold(posixpath.join(above, _stem(path)))


VOC = Format(
    "voc",
    "Pascal VOC or LabelImg: an .xml of objects for each image, beside it or in Annotations/; splits of "
    "ImageSets/Main/, of lists `image xml`, or of folders; every box is an image of its class",
    _detect,
    _read,
    ANNOTATIONS,
)
