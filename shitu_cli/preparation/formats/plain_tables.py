"""Tables of boxes without a header: keras-retinanet, AutoML Vision, makesense."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.annotated import Annotated
from shitu_cli.preparation.formats.base import ANNOTATIONS, Format, Rows
from shitu_cli.preparation.formats.boxes import XYWH, XYXY, XYXY_SHARE, Convention, numbers, stated_size
from shitu_cli.preparation.formats.csv_files import delimiter, read_plain_csv
from shitu_cli.preparation.formats.discovery import annotation_files, head_and_tail, split_of
from shitu_cli.preparation.formats.source import Source, has_image_suffix, plain_path
from shitu_cli.preparation.formats.values import words
from shitu_cli.preparation.problems import Problems

_SETS = {
    "TRAIN": "train",
    "TRAINING": "train",
    "VALIDATE": "val",
    "VALIDATION": "val",
    "TEST": "test",
    "UNASSIGNED": "",
}
_PROBED_LINES = 20


@dataclass(frozen=True)
class _Entry:
    """A row: `corners` are the texts of its box, none for a label of the whole image or an image without objects."""

    image: str
    label: str
    corners: Sequence[str] = ()
    split: str = ""
    size: tuple[str, str] | None = None


def _retinanet(cells: list[str]) -> _Entry | None:
    """path,x1,y1,x2,y2,class; all but the path empty where there is no object."""
    if len(cells) != 6 or not _is_image(cells[0]):
        return None
    return _Entry(cells[0], cells[5], cells[1:5]) if not any(cells[1:]) or numbers(cells[1:5]) else None


def _automl(cells: list[str]) -> _Entry | None:
    """[set,]path,label,x_min,y_min,,,x_max,y_max,, or x,y of all four corners; without numbers: whole images."""
    split = _SETS.get(cells[0].upper())
    rest = cells[1:] if split is not None else cells
    if split is None or len(rest) < 2 or not _is_image(rest[0]):
        return None
    if len(rest) == 10:
        corners = (rest[2], rest[3], rest[6], rest[7])
        return _Entry(rest[0], rest[1], corners if any(corners) else (), split) if _or_empty(corners) else None
    return _Entry(rest[0], rest[1], (), split) if not any(rest[2:]) else None


def _makesense(cells: list[str]) -> _Entry | None:
    """label,x,y,width,height,image,image width,image height"""
    if len(cells) != 8 or not _is_image(cells[5]) or numbers([*cells[1:5], *cells[6:]]) is None:
        return None
    return _Entry(cells[5], cells[0], cells[1:5], "", (cells[6], cells[7]))


@dataclass(frozen=True)
class _Kind:
    name: str
    parse: Callable[[list[str]], _Entry | None]
    convention: Convention
    expected: str


_KINDS = (
    _Kind("keras-retinanet", _retinanet, XYXY, "path,x1,y1,x2,y2,class"),
    _Kind("AutoML", _automl, XYXY_SHARE, "set,path,label,x_min,y_min,,,x_max,y_max,,"),
    _Kind("makesense", _makesense, XYWH, "label,x,y,width,height,image,image width,image height"),
)


def _is_image(text: str) -> bool:
    return has_image_suffix(plain_path(text))


def _or_empty(values: Sequence[str]) -> bool:
    return not any(values) or numbers(values) is not None


def _kind(source: Source, file: str) -> _Kind | None:
    """What the first rows of a file are; a header, which names no image, is none."""
    text = head_and_tail(source.base / file).decode("utf-8-sig", "replace")
    lines = text.splitlines()[:_PROBED_LINES]
    if not lines:
        return None
    try:
        rows = [[cell.strip() for cell in cells] for cells in csv.reader(lines, delimiter=delimiter(lines[0])) if cells]
    except csv.Error:
        return None
    return next(
        (k for k in _KINDS if rows and k.parse(rows[0]) and sum(map(bool, map(k.parse, rows))) * 2 > len(rows)), None
    )


def _files(source: Source) -> dict[str, _Kind]:
    kinds = {file: _kind(source, file) for file in annotation_files(source, ".csv", ".txt")[:2000]}
    return {file: kind for file, kind in kinds.items() if kind is not None}


def _detect(source: Source) -> bool:
    return not source.options.columns and bool(_files(source))


def _read(source: Source, problems: Problems) -> Rows:
    files = _files(source)
    if not files:
        raise DataError(f"{source.path}: no table like {' or '.join(kind.expected for kind in _KINDS)}")
    gathered = Annotated(source, problems, " and ".join(sorted({kind.name for kind in files.values()})))
    for file, kind in files.items():
        _read_file(file, kind, gathered)
    return gathered.rows()


def _read_file(file: str, kind: _Kind, gathered: Annotated) -> None:
    split = "" if gathered.source.path.is_file() else split_of(file)
    for line, cells in read_plain_csv(gathered.path(file), gathered.problems):
        entry = kind.parse([cell.strip() for cell in cells])
        if entry is None:
            gathered.bad(file, line, f"expected {kind.expected}, got {','.join(cells)[:80]!r}")
            continue
        part = entry.split or split
        image = gathered.find(entry.image, file, line, part)
        if image is None:
            continue
        box = numbers(entry.corners) if any(entry.corners) else None
        if box is None and not entry.label:
            gathered.problems.add("no-objects", gathered.where(file, line), image)
        elif box is None:
            gathered.add(image, words(entry.label), file, line, split=part)
        else:
            size = stated_size(*entry.size) if entry.size else None
            convention = kind.convention
            gathered.add(image, words(entry.label), file, line, split=part, box=box, convention=convention, size=size)


PLAIN_TABLE = Format(
    "plain-table",
    "tables without a header: path,x1,y1,x2,y2,class (keras-retinanet); set,path,label,x_min,y_min,,,x_max,y_max,, in "
    "shares, or set,path,label (AutoML); label,x,y,width,height,image,width,height (makesense)",
    _detect,
    _read,
    ANNOTATIONS,
)
