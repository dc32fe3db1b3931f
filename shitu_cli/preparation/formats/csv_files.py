"""Read tables of annotation tools: any separator and encoding, rows with their line numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from shitu_cli.preparation.formats.base import read_text
from shitu_cli.preparation.formats.discovery import head_and_tail
from shitu_cli.preparation.problems import Problems

Line = tuple[int, list[str]]


def read_csv(path: Path, problems: Problems) -> tuple[list[str], Iterator[Line]]:
    """Return the header, and the rows that have as many cells, with their lines; others are reported."""
    text, skipped = read_text(path, problems), 0
    if text[:4].lower() == "sep=":  # a line that Excel writes for itself
        text, skipped = text.partition("\n")[2], 1
    rows = _rows(text, skipped, path, problems)
    header = [name.strip() for name in next(rows, (0, []))[1]]
    return header, _whole(rows, len(header), path, problems)


def read_plain_csv(path: Path, problems: Problems) -> Iterator[Line]:
    """Return the rows of a table without a header."""
    return _rows(read_text(path, problems), 0, path, problems)


def header_of(path: Path) -> list[str]:
    """Return the cells of the first line of a table, to recognise it by."""
    lines = [line for line in _head(path).splitlines()[:2] if not line.lower().startswith("sep=")]
    try:
        cells = next(csv.reader(lines[:1], delimiter=delimiter(lines[0])), []) if lines else []
    except csv.Error:
        return []
    return [cell.strip() for cell in cells]


def _head(path: Path) -> str:
    head = head_and_tail(path)
    utf16 = head[:2] in (b"\xff\xfe", b"\xfe\xff")
    return head.decode("utf-16", "replace") if utf16 else head.decode("utf-8-sig", "replace")


def delimiter(line: str) -> str:
    """Return the separator that a line has most of."""
    return max(",;\t|", key=line.count)


def _rows(text: str, skipped: int, path: Path, problems: Problems) -> Iterator[Line]:
    separator = delimiter(text.partition("\n")[0])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problems.add("malformed", f"{path}:{reader.line_num + skipped}", str(error))
            continue
        if any(cell.strip() for cell in cells):
            yield reader.line_num + skipped, cells


def _whole(rows: Iterator[Line], columns: int, path: Path, problems: Problems) -> Iterator[Line]:
    for line, cells in rows:
        if len(cells) == columns:
            yield line, cells
        else:
            problems.add("malformed", f"{path}:{line}", f"{len(cells)} cells, the header has {columns}")


def head_rows(path: Path, count: int = 20) -> list[list[str]]:
    """Return the first rows behind the header of a table, to recognise it by; [] for what is no table."""
    lines = [line for line in _head(path).splitlines()[: count + 2] if not line.lower().startswith("sep=")]
    if not lines:
        return []
    try:
        rows = list(csv.reader(lines, delimiter=delimiter(lines[0]), skipinitialspace=True))
    except csv.Error:
        return []
    return [row for row in rows[1:] if len(row) == len(rows[0])]
