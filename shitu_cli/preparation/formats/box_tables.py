"""Tables of boxes at any level: TensorFlow's and Roboflow's _annotations.csv, Open Images, GTSRB."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice

from shitu_cli.errors import Command, UsageError
from shitu_cli.preparation.formats.annotations import Annotations
from shitu_cli.preparation.formats.boxes import (
    SHARES,
    XYXY_SHARE,
    Convention,
    box_columns,
    numbers,
    plain_name,
    stated_size,
)
from shitu_cli.preparation.formats.delimited import header_of, read_table
from shitu_cli.preparation.formats.text_files import read_plain_csv
from shitu_cli.preparation.formats.tool import AnnotationFile, ImageEntry, annotation_format, files_ending, per_file
from shitu_cli.preparation.formats.values import label_text
from shitu_cli.preparation.problems import Problems

_IMAGES = ("filename", "file", "image", "imagename", "imageid", "path", "imagepath", "filepath", "img", "imgname")
_CLASSES = ("class", "label", "classname", "labelname", "category", "classid", "categoryname", "name", "target")
_SIZES = (("width", "imagewidth", "imgwidth", "w"), ("height", "imageheight", "imgheight", "h"))
SAMPLE = 1000  # rows that decide whether boxes are in pixels
_OPEN_IMAGES = {"imageid", "labelname", "xmin", "xmax", "ymin", "ymax"}


@dataclass(frozen=True)
class _Columns:
    """Where the columns of a table are; `sizes` are width and height of the image, `group` marks a crowd."""

    image: int
    label: int
    box: list[int]
    convention: Convention
    sizes: list[int]
    group: int | None


def _is_one(name: str, head: bytes) -> bool:
    """Return whether a table has an image, a class and a box in four columns; x_1, y_1 ... are read by `table`."""
    header = header_of(head)
    plain = {plain_name(name) for name in header}
    by_table = {"x_1", "y_1", "x_2", "y_2"} <= {name.lower() for name in header}
    return not by_table and box_columns(header) is not None and not plain.isdisjoint(_IMAGES) and (
        not plain.isdisjoint(_CLASSES)
    )  # fmt: skip


def _read(annotations: Annotations, files: Sequence[str]) -> None:
    names = _class_descriptions(annotations)
    per_file(lambda file: _read_file(file, names))(annotations, files)


def _read_file(file: AnnotationFile, names: dict[str, str]) -> None:
    header, rows = read_table(file.path, file.problems)
    columns = _columns(header, file)
    first = list(islice(rows, SAMPLE))
    values = [value for _, cells in first for value in numbers(cells[at] for at in columns.box) or ()]
    convention = columns.convention
    if values and 0 <= min(values) <= max(values) <= 1:  # of pixels, nothing would be left
        convention = SHARES.get(convention, convention)
    images: dict[str, ImageEntry | None] = {}
    for line, cells in chain(first, rows):
        name, label = cells[columns.image].strip(), label_text(cells[columns.label])
        texts = [cells[at] for at in columns.box]
        if name not in images:
            images[name] = file.find(name, line)
        image = images[name]
        if image is None:
            continue
        image.entry = line
        if not any(text.strip() for text in texts):
            image.empty()
        elif columns.group is not None and cells[columns.group].strip() in ("1", "True", "true"):
            file.problems.add("crowd", f"{file.path}:{line}", names.get(label, label))
        else:
            image.size = stated_size(*(cells[at] for at in columns.sizes)) if len(columns.sizes) == 2 else None
            otherwise = f"box {','.join(texts)[:60]!r}, expected {convention.text}"
            image.box(names.get(label, label), numbers(texts), convention, otherwise)


def _columns(header: list[str], file: AnnotationFile) -> _Columns:
    plain = [plain_name(name) for name in header]
    box, convention = box_columns(header) or ([], XYXY_SHARE)
    rest = {name: number for number, name in enumerate(plain) if number not in box}
    images = [rest[name] for name in _IMAGES if name in rest]
    classes = [name for name in _CLASSES if name in rest and rest[name] not in images[:1]]
    if len(classes) > 1:  # the number beside the name
        classes = [name for name in classes if name not in ("classid", "target")] or classes
    if len(classes) != 1 or not images:
        shown = ", ".join(header[rest[name]] for name in classes)
        raise UsageError(
            f"{file.path}: which of {shown or ', '.join(header)} is the class?",
            hint=["name it: ", Command("prepare", file.path, "--columns", "label"), "=..."],
        )
    sizes = [rest[present[0]] for names in _SIZES if (present := [name for name in names if name in rest])]
    if set(plain) >= _OPEN_IMAGES:  # LabelName and IsGroupOf beside it: shares of the image
        convention = XYXY_SHARE
    return _Columns(images[0], rest[classes[0]], box, convention, sizes, rest.get("isgroupof"))


def _class_descriptions(annotations: Annotations) -> dict[str, str]:
    """Return /m/0k4j → Car, of Open Images' class-descriptions-boxable.csv or metadata/classes.csv."""
    names: dict[str, str] = {}
    for file in annotations.source.tree.files:
        base = posixpath.basename(file).lower()
        if base.endswith(".csv") and ("class-descriptions" in base or base == "classes.csv"):
            for _, cells in read_plain_csv(annotations.path(file), Problems()):
                if len(cells) == 2 and cells[0].startswith(("/m/", "/g/", "/t/", "/j/")):
                    names[cells[0].strip()] = label_text(cells[1])
    counts = Counter(names.values())
    return {key: name if counts[name] == 1 else f"{name} ({key})" for key, name in names.items()}


BOX_TABLE = annotation_format(
    "box-table",
    "tables of boxes: filename, class, xmin, ymin, xmax, ymax (TensorFlow, Roboflow's _annotations.csv), Open Images "
    "with class-descriptions, and the like, in each split's folder or above; every box is an image of its class",
    tool="table of boxes",
    files=files_ending(".csv", ".tsv"),
    is_one=_is_one,
    read=_read,
    needs=".csv with columns for image, class and box, such as xmin,ymin,xmax,ymax",
)
