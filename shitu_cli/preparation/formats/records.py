"""JSON that labels images without being of a known tool: read as the table that it amounts to.

[{"image": "a.jpg", "label": "cat"}, ...], the same in lines (.jsonl) or under one key, {"a.jpg": "cat", ...},
{"a.jpg": {"label": "cat"}, ...} and {"cat": ["a.jpg", ...], ...}; or {"train": [...], "test": [...]}. Records may be
lists [image, label, name] too, or stand in columns, as pandas writes them.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shitu_cli.inputs import MIB
from shitu_cli.preparation.formats.base import first_bytes
from shitu_cli.preparation.formats.delimited import Sheet
from shitu_cli.preparation.formats.source import names_image
from shitu_cli.preparation.formats.splits import WORDS
from shitu_cli.preparation.formats.text_files import read_json_lines, read_large_json
from shitu_cli.preparation.problems import Problems

SUFFIXES = (".json", ".jsonl", ".ndjson")
LIMIT = 512 * MIB
MAX_COLUMNS = 200
PROBED = 1 << 16  # bytes that show whether there is an object in each line
Record = dict[str, Any]


def open_records(path: Path, name: str, problems: Problems) -> Sheet | None:
    """Return the table that a JSON file amounts to, None for another shape; errors are those of `read_json`."""
    numbered = path.suffix.lower() != ".json" or in_lines(first_bytes(path, PROBED))
    entries = list(read_json_lines(path, problems)) if numbered else _numbered(read_large_json(path, limit=LIMIT))
    records = [(number, dict(_flat(record))) for number, record in entries]
    header = list(dict.fromkeys(key for _, record in records for key in record))
    if not records or not 2 <= len(header) <= MAX_COLUMNS or any("\n" in key for key in header):
        return None
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    line = 0
    for number, record in records:
        text.write("\n" * (number - line - 1))  # the rows of the table have the numbers of the records
        writer.writerow([_cell(record.get(key)) for key in header])
        line = number
    unit = "" if numbered else "entry {}"
    return Sheet(path, name, text.getvalue(), ",", header, start=-1, unit=unit)


def in_lines(head: bytes) -> bool:
    """Return whether a file begins with an object of JSON in each of two lines, whatever it is called."""
    lines = [line.strip() for line in head.removeprefix(b"\xef\xbb\xbf").splitlines()[:2]]
    return len(lines) == 2 and all(line[:1] == b"{" for line in lines) and lines[0].endswith(b"}")


def _numbered(value: Any) -> list[tuple[int, Record]]:
    return list(enumerate(_records(value), 1))


def _flat(record: Record, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a record, those of objects in it as `meta.brand`; an object of numbers may be a box."""
    for key, value in record.items():
        if isinstance(value, dict) and not all(isinstance(item, (int, float)) for item in value.values()):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _records(value: Any) -> list[Record]:
    """Return the records of a list or object; [] for another shape."""
    if isinstance(value, list):
        return value if value and all(isinstance(item, dict) for item in value) else _tuples(value)
    if not isinstance(value, dict) or not value:
        return []
    if all(_is_image(key) for key in value):
        if all(isinstance(item, dict) for item in value.values()):
            return [{"image": key, **item} for key, item in value.items()]
        if all(isinstance(item, (str, int)) or _are_names(item) for item in value.values()):
            return [{"image": key, "label": item} for key, item in value.items()]
    if columns := _columns(value):
        return columns
    if all(isinstance(item, list) and all(map(_is_image, item)) for item in value.values()):
        return [{"image": image, "label": key} for key, images in value.items() for image in images]
    if len(value) > 1 and value.keys() <= WORDS.keys():
        parts = [(split, _records(item) or _tuples(item)) for split, item in value.items()]
        return [{**record, "split": split} for split, records in parts for record in records]
    lists = [item for item in value.values() if isinstance(item, list) and item]
    for kind in (dict, list):
        if several := [item for item in lists if isinstance(item[0], kind)]:
            return _records(several[0]) if len(several) == 1 else []
    return []


def _columns(value: Record) -> list[Record]:
    """Return the records of columns {"image": {"0": ...}, "label": {"0": ...}}, which pandas writes; [] for others."""
    columns = [column for column in value.values() if isinstance(column, dict)]
    rows = list(columns[0]) if len(columns) == len(value) > 1 else []
    are_rows = all(map(str.isdecimal, rows)) and all(column.keys() == columns[0].keys() for column in columns)
    return [{key: column[row] for key, column in value.items()} for row in rows] if are_rows else []


def _tuples(value: Any) -> list[Record]:
    """Return the records of lists [image, label] or [image, label, name]; [] for another shape."""
    rows = value if isinstance(value, list) else []
    are_rows = rows and all(isinstance(row, list) and 2 <= len(row) <= 3 and _is_image(row[0]) for row in rows)
    return [dict(zip(("image", "label", "label_name"), row, strict=False)) for row in rows] if are_rows else []


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_image(value: Any) -> bool:
    return isinstance(value, str) and names_image(value)


def _cell(value: Any) -> str:
    """Return a value as a table has it; lists of numbers as the boxes they may be."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(item, (int, float)) for item in value):
        return ",".join(str(item) for item in value)
    if _are_names(value):
        return json.dumps(value, ensure_ascii=False)  # names, which may hold every other sign
    return " ".join(str(value).split())
