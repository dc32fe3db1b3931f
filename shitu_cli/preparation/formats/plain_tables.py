"""Tables of boxes without a header: keras-retinanet, AutoML Vision, makesense."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shitu_cli.preparation.formats.boxes import XYWH, XYXY, XYXY_SHARE, Convention, Size, numbers, stated_size
from shitu_cli.preparation.formats.source import names_image
from shitu_cli.preparation.formats.splits import WORDS
from shitu_cli.preparation.formats.text_files import head_rows, read_plain_csv
from shitu_cli.preparation.formats.tool import AnnotationFile, annotation_format, files_ending, per_file


@dataclass(frozen=True)
class _Entry:
    """A row: `corners` are the texts of its box, none for a label of the whole image or an image without objects."""

    image: str
    label: str
    corners: Sequence[str] = ()
    split: str = ""
    size: Size | None = None


def _retinanet(cells: list[str]) -> _Entry | None:
    """Read path,x1,y1,x2,y2,class; all but the path are empty for an image without objects."""
    if len(cells) != 6 or not names_image(cells[0]):
        return None
    return _Entry(cells[0], cells[5], cells[1:5]) if not any(cells[1:]) or numbers(cells[1:5]) else None


def _automl(cells: list[str]) -> _Entry | None:
    """Read set,path,label,x_min,y_min,,,x_max,y_max,, or x,y of all four corners; without numbers: whole images."""
    split = {**WORDS, "unassigned": ""}.get(cells[0].lower())
    rest = cells[1:]
    if split is None or len(rest) < 2 or not names_image(rest[0]):
        return None
    corners = (rest[2], rest[3], rest[6], rest[7]) if len(rest) == 10 else ()
    if any(corners):
        return _Entry(rest[0], rest[1], corners, split) if numbers(corners) else None
    return _Entry(rest[0], rest[1], (), split) if corners or not any(rest[2:]) else None


def _makesense(cells: list[str]) -> _Entry | None:
    """Read label,x,y,width,height,image,image width,image height."""
    if len(cells) != 8 or not names_image(cells[5]) or numbers([*cells[1:5], *cells[6:]]) is None:
        return None
    return _Entry(cells[5], cells[0], cells[1:5], "", stated_size(cells[6], cells[7]))


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


def _kind(head: bytes) -> _Kind | None:
    """Return the kind of table by the first rows of its file; None for any other, and for one with a header."""
    rows = head_rows(head)
    for kind in _KINDS:
        if rows and kind.parse(rows[0]) and sum(kind.parse(row) is not None for row in rows) * 2 > len(rows):
            return kind
    return None


def _read(file: AnnotationFile) -> None:
    kind = _kind(file.annotations.source.head(file.name))
    assert kind is not None
    for line, cells in read_plain_csv(file.path, file.problems):
        entry = kind.parse([cell.strip() for cell in cells])
        if entry is None:
            file.bad(line, f"expected {kind.expected}, got {','.join(cells)[:80]!r}")
            continue
        image = file.find(entry.image, line, entry.split, entry.size)
        if image is None:
            continue
        if any(entry.corners):
            image.box(entry.label, numbers(entry.corners), kind.convention, "")
        elif entry.label:
            image.label(entry.label)
        else:
            image.empty()


PLAIN_TABLE = annotation_format(
    "plain-table",
    "tables without a header: path,x1,y1,x2,y2,class (keras-retinanet); set,path,label,x_min,y_min,,,x_max,y_max,, in "
    "shares, or set,path,label (AutoML); label,x,y,width,height,image,width,height (makesense)",
    tool="table without a header",
    files=files_ending(".csv", ".txt"),
    is_one=lambda name, head: _kind(head) is not None,
    read=per_file(_read),
    needs=f"table like {' or '.join(kind.expected for kind in _KINDS)}",
)
