"""Tables of boxes at any level: TensorFlow's and Roboflow's _annotations.csv, Open Images, GTSRB, makesense."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from shitu_cli.errors import Command, DataError, UsageError
from shitu_cli.preparation.formats.annotated import Annotated
from shitu_cli.preparation.formats.base import ANNOTATIONS, Format, Rows
from shitu_cli.preparation.formats.boxes import XYXY_SHARE, Convention, box_columns, numbers, plain_name, stated_size
from shitu_cli.preparation.formats.csv_files import header_of, read_csv, read_plain_csv
from shitu_cli.preparation.formats.discovery import annotation_files, split_of
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.values import words
from shitu_cli.preparation.problems import Problems

_IMAGES = ("filename", "file", "image", "imagename", "imageid", "path", "imagepath", "filepath", "img", "imgname")
_CLASSES = ("class", "label", "classname", "labelname", "category", "classid", "categoryname", "name", "target")
_WIDTHS, _HEIGHTS = ("width", "imagewidth", "imgwidth", "w"), ("height", "imageheight", "imgheight", "h")
_OPEN_IMAGES = {"imageid", "labelname", "xmin", "xmax", "ymin", "ymax"}


@dataclass(frozen=True)
class _Table:
    """Where the columns of a table are."""

    image: int
    label: int
    box: list[int]
    convention: Convention
    width: int | None
    height: int | None
    group: int | None


def _is_box_table(header: list[str]) -> bool:
    """Whether it has an image, a class and a box in four columns; x_1, y_1 ... are read by `table`."""
    plain = {plain_name(name) for name in header}
    named = bool(plain & set(_IMAGES)) and bool(plain & set(_CLASSES))
    return named and box_columns(header) is not None and not {"x_1", "y_1", "x_2", "y_2"} <= {n.lower() for n in header}


def _files(source: Source) -> list[str]:
    files = annotation_files(source, ".csv", ".tsv")[:2000]
    return [file for file in files if _is_box_table(header_of(source.base / file))]


def _detect(source: Source) -> bool:
    return not source.options.columns and bool(_files(source))


def _read(source: Source, problems: Problems) -> Rows:
    gathered = Annotated(source, problems, "table of boxes")
    files = _files(source)
    if not files:
        raise DataError(f"{source.path}: no .csv with columns for image, class and box, such as xmin,ymin,xmax,ymax")
    names = _class_descriptions(gathered)
    for file in files:
        _read_file(file, names, gathered)
    return gathered.rows()


def _read_file(file: str, names: dict[str, str], gathered: Annotated) -> None:
    header, rows = read_csv(gathered.path(file), gathered.problems)
    table = _columns(header, file, gathered)
    split = "" if gathered.source.path.is_file() else split_of(file)
    known: dict[str, str | None] = {}
    for line, cells in rows:
        name, texts = cells[table.image].strip(), [cells[at].strip() for at in table.box]
        if name not in known:
            known[name] = gathered.find(name, file, line, split)
        image = known[name]
        if image is None:
            continue
        if not any(texts):
            gathered.problems.add("no-objects", gathered.where(file, line), image)
            continue
        box = numbers(texts)
        if box is None:
            gathered.bad(file, line, f"box {','.join(texts)[:60]!r}, expected {table.convention.text}")
            continue
        label = words(cells[table.label])
        if table.group is not None and cells[table.group].strip() in ("1", "True", "true"):
            gathered.problems.add("crowd", gathered.where(file, line), names.get(label, label))
            continue
        size = None
        if table.width is not None and table.height is not None:
            size = stated_size(cells[table.width], cells[table.height])
        gathered.add(
            image,
            names.get(label, label),
            file,
            line,
            split=split,
            box=box,
            convention=table.convention,
            size=size,
        )


def _columns(header: list[str], file: str, gathered: Annotated) -> _Table:
    plain = [plain_name(name) for name in header]
    found = box_columns(header)
    assert found is not None
    box, convention = found
    rest = {name: number for number, name in enumerate(plain) if number not in box}
    images = [rest[name] for name in _IMAGES if name in rest]
    classes = [name for name in _CLASSES if name in rest and rest[name] not in images[:1]]
    if len(classes) > 1:  # the number beside the name
        classes = [name for name in classes if name not in ("classid", "target")] or classes
    if len(classes) != 1:
        shown = ", ".join(header[rest[name]] for name in classes)
        raise UsageError(
            f"{gathered.path(file)}: which of {shown or ', '.join(header)} is the class?",
            hint=["name it: ", Command("prepare", gathered.path(file), "--columns", "label"), "=..."],
        )
    label = classes[0]
    width = next((rest[name] for name in _WIDTHS if name in rest), None)
    height = next((rest[name] for name in _HEIGHTS if name in rest), None)
    if set(plain) >= _OPEN_IMAGES:  # LabelName and IsGroupOf beside it: shares of the image
        convention = XYXY_SHARE
    return _Table(images[0], rest[label], box, convention, width, height, rest.get("isgroupof"))


def _class_descriptions(gathered: Annotated) -> dict[str, str]:
    """Open Images: /m/0k4j → Car, of class-descriptions-boxable.csv or metadata/classes.csv."""
    names: dict[str, str] = {}
    for file in gathered.source.tree.files:
        base = posixpath.basename(file).lower()
        if base.endswith(".csv") and ("class-descriptions" in base or base == "classes.csv"):
            for _, cells in read_plain_csv(gathered.path(file), Problems()):
                if len(cells) == 2 and cells[0].startswith(("/m/", "/g/", "/t/", "/j/")):
                    names[cells[0].strip()] = words(cells[1])
    doubled = {name for name in names.values() if list(names.values()).count(name) > 1} if len(names) < 20000 else set()
    return {key: f"{name} ({key})" if name in doubled else name for key, name in names.items()}


BOX_TABLE = Format(
    "box-table",
    "tables of boxes: filename, class, xmin, ymin, xmax, ymax (TensorFlow, Roboflow's _annotations.csv), Open Images "
    "with class-descriptions, and the like, in each split's folder or above; every box is an image of its class",
    _detect,
    _read,
    ANNOTATIONS,
)
