"""The rows of one table or list as columns: image, label, split, camera and box of each line."""

from __future__ import annotations

import ast
import sys
import warnings
from array import array
from collections.abc import Sequence
from sys import intern

from shitu_cli.preparation.formats.base import whole_label
from shitu_cli.preparation.formats.boxcells import CellBox, cell_box
from shitu_cli.preparation.formats.columns import Columns
from shitu_cli.preparation.formats.sheets import Labels
from shitu_cli.preparation.formats.splits import NO, YES
from shitu_cli.preparation.formats.values import label_text
from shitu_cli.preparation.problems import Problems
from shitu_cli.reporting import counted

LONGEST_LIST = 2000  # characters of a cell that is read as a list of names


class Lines:
    """What one file says, line by line: columns of equal length."""

    def __init__(self, labels: Labels) -> None:
        assert labels.columns is not None
        self.sheet, self.columns, self.role = labels.sheet, labels.columns, labels.role
        self.images: list[str] = []
        self.labels: list[str] = []
        self.splits: list[str] = []
        self.lines = array("q")
        self.ids: dict[int, str] = {}
        self.boxes: dict[int, CellBox] = {}
        self.display: dict[str, str] = {}
        self.dropped: frozenset[int] = frozenset()
        # Of `path 3 7 9` among lines of one label, the first must not be taken; empty cells at the end mean nothing.
        self.most = len(self.columns.names) if self.sheet.header is None else sys.maxsize

    def other_width(self, cells: Sequence[str]) -> str:
        """Return what is wrong with a line of another number of columns than most have."""
        if any(cells[self.most :]):
            return f"{len(cells)} columns, where most lines have {self.most}"
        return f"{counted(len(cells), 'column')}, the label is missing"

    def where(self, number: int) -> str:
        """Return the place of a row for messages."""
        return self.sheet.where(self.lines[number])


def read_lines(labels: Labels, problems: Problems) -> Lines:
    """Return the rows of a file; report those without image or label, or with an invalid split or box."""
    content = Lines(labels)
    columns, sheet = content.columns, content.sheet
    # Without a column the file's name decides: train.csv beside test.csv.
    role = "" if columns.split is not None else labels.role
    last = max(n for n in (columns.image, columns.label or 0))
    if sheet.header is not None and sheet.start >= 0 and sheet.path.suffix.lower() not in (".csv", ".tsv"):
        problems.add("heading", sheet.where(sheet.start + 1), repr(sheet.delimiter.join(sheet.header)))
    if _only_labels(columns):
        _read_plain(content, problems)
        return content
    for line, cells in sheet.rows(problems):
        if len(cells) <= last or any(cells[content.most :]):
            problems.add("malformed", sheet.where(line), content.other_width(cells))
            continue
        image = cells[columns.image]
        label = _one_hot(cells, columns, sheet.where(line), problems) if columns.one_hot else cells[columns.label or 0]
        if label is None:
            continue
        cell, label = label, class_name(label)
        if not image or not label:
            problems.add("malformed", sheet.where(line), _missing(cell))
            continue
        split = cells[columns.split].lower() if columns.split is not None and columns.split < len(cells) else ""
        if split and split not in columns.splits:
            problems.add("malformed", sheet.where(line), f"split {split!r}, expected train, val, query, ...")
            continue
        try:
            box = cell_box([cells[n] for n in columns.box if n < len(cells)])
            parts = _parts(columns, columns.splits.get(split) or role, cells)
        except ValueError as error:
            problems.add("malformed", sheet.where(line), str(error))
            continue
        for part in parts:
            number = len(content.images)
            content.images.append(image)
            content.labels.append(label)
            content.splits.append(part)
            content.lines.append(line)
            if columns.id is not None and columns.id < len(cells) and cells[columns.id] not in ("", "-"):
                content.ids[number] = cells[columns.id]
            if box is not None:
                content.boxes[number] = box
        if columns.display is not None and columns.display < len(cells):
            content.display[label] = cells[columns.display]
    sheet.text = ""  # a long list is held once
    return content


def _only_labels(columns: Columns) -> bool:
    more = (columns.split, columns.id, columns.display)
    return not (columns.box or columns.one_hot or columns.marks) and all(column is None for column in more)


def _read_plain(content: Lines, problems: Problems) -> None:
    """Read rows of which only image and label count, as fast as possible: such lists may have millions of lines."""
    image_at, label_at = content.columns.image, content.columns.label or 0
    images, labels, lines = content.images, content.labels, content.lines
    last = max(image_at, label_at)
    names: dict[str, str] = {}  # one object for each label
    for line, cells in content.sheet.rows(problems):
        wide = len(cells) > content.most and any(cells[content.most :])
        cell = "" if wide or len(cells) <= last else cells[label_at]
        label = names.get(cell)
        if label is None:
            label = names[cell] = intern(class_name(cell))
        if label and (image := cells[image_at]):
            images.append(image)
            labels.append(label)
            lines.append(line)
        else:
            problems.add("malformed", content.sheet.where(line), content.other_width(cells) if wide else _missing(cell))
    content.splits = [content.role] * len(images)
    content.sheet.text = ""  # a long list is held once


def _missing(cell: str) -> str:
    return f"no class in {cell[:60]!r}" if cell and not class_name(cell) else "image or label is empty"


def class_name(cell: str) -> str:
    """Return the class that a cell names: 7 for 7.0, 007 for ="007", what a list holds as ['cat']; "" for an empty one.

    Several names in one cell are a class together, like those that blanks separate.
    """
    if cell[:2] == '="' and cell[-1:] == '"' and cell.count('"') == 2:
        return cell[2:-1]  # how a spreadsheet is kept from making a number of it
    if cell[:1] != "[" or cell.count("[") > 1 or len(cell) > LONGEST_LIST:
        return whole_label(cell)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's about backslashes in the name
            items = ast.literal_eval(cell)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return cell
    return ", ".join(label_text(item) for item in items) if isinstance(items, list) else cell


def _one_hot(cells: Sequence[str], columns: Columns, place: str, problems: Problems) -> str | None:
    """Return the class whose column is 1; report none or several, and return None."""
    labels = [columns.names[n] for n in columns.one_hot if cells[n].lower() in YES]
    if len(labels) == 1:
        return labels[0]
    kind, detail = ("several-labels", f": {', '.join(labels)}") if labels else ("no-objects", "")
    problems.add(kind, place, f"{cells[columns.image]}{detail}")
    return None


def _parts(columns: Columns, split: str, cells: Sequence[str]) -> list[str]:
    """Return the splits of a row: those whose columns are true for it; of tables with such columns, others are trained.

    Raises ValueError for a cell that says neither yes nor no.
    """
    if not columns.marks or split in ("train", "query", "gallery"):
        return [split]
    marked = []
    for name, at in columns.marks.items():
        cell = cells[at].strip().lower() if at < len(cells) else ""
        if cell not in (*YES, *NO, "", "nan", "none", "null"):
            raise ValueError(f"{columns.names[at]} is {cells[at]!r}, expected yes or no")
        if cell in YES:
            marked.append(name)
    return marked or [split or "train"]
