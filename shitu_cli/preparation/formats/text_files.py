"""Read tables, JSON lines, XML and plain lines that somebody else wrote, in any encoding, with line numbers."""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from shitu_cli.errors import DataError
from shitu_cli.inputs import MIB, parse_json, read_bytes
from shitu_cli.inputs.json_files import memory_of_json
from shitu_cli.preparation.formats.encoding import read_list_text
from shitu_cli.preparation.problems import Problems
from shitu_cli.runtime.memory import require_room

Line = tuple[int, list[str]]
LARGE_JSON = 16 * MIB  # smaller ones fit into any memory


def lines_of(text: str) -> Iterator[str]:
    """Yield the lines of a text one by one: a list of them all would hold a long file twice."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end]
        start = end + 1
    if start < len(text):
        yield text[start:]


def read_lines(path: Path, problems: Problems) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that are not blank, without blanks around them, with their numbers from 1.

    The encoding is detected. Raises DataError if two are about as likely, or if the file cannot be read.
    """
    for number, line in enumerate(lines_of(read_list_text(path, problems)), 1):
        if stripped := line.strip():
            yield number, stripped


def read_plain_csv(path: Path, problems: Problems) -> Iterator[Line]:
    """Yield the rows of a table with their lines, the first of them too; those that cannot be read are reported."""
    text, line = read_list_text(path, problems), 0
    if text[:4].lower() == "sep=":  # a line that Excel writes for itself
        text, line = text.partition("\n")[2], 1
    for number, cells in csv_rows(io.StringIO(text, newline=""), delimiter(text), path, problems, line):
        if any(cell.strip() for cell in cells):
            yield number, cells


def csv_rows(
    lines: Iterable[str], separator: str, place: object, problems: Problems | None, start: int = 0
) -> Iterator[Line]:
    """Yield the rows of a table with their line numbers, counted on from `start`; report unreadable ones."""
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if problems is not None:
                problems.add("malformed", f"{place}:{start + reader.line_num}", str(error))
            continue
        yield start + reader.line_num, cells


def rough_text(head: bytes) -> str:
    """Return the first bytes of a file as text, to recognise it by."""
    utf16 = head[:2] in (b"\xff\xfe", b"\xfe\xff")
    return head.decode("utf-16" if utf16 else "utf-8-sig", "replace")


def head_rows(head: bytes) -> list[list[str]]:
    """Return about 20 rows of a table from the first bytes of its file, to recognise it by; [] for other files."""
    lines = [line for line in rough_text(head).splitlines()[:22] if not line.lower().startswith("sep=")]
    try:
        rows = list(csv.reader(lines, delimiter=delimiter(lines[0]), skipinitialspace=True)) if lines else []
    except csv.Error:
        return []
    return [[cell.strip() for cell in row] for row in rows if row]


def delimiter(text: str) -> str:
    """Return the separator that the first line of a text has most of."""
    return max(",;\t|", key=text.partition("\n")[0].count)


def read_large_json(path: Path, *, limit: int) -> Any:
    """Return what a JSON file of at most `limit` bytes holds, if its values fit into the memory.

    Raises EnvironmentProblem if they do not; other errors are those of `read_json`.
    """
    data = read_bytes(path, limit=limit)
    if len(data) > LARGE_JSON:
        require_room(memory_of_json(data), path)
    return parse_json(data, path)


def read_json_lines(path: Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line, object) of a file with a JSON object in each line; others are reported."""
    for number, line in read_lines(path, problems):
        try:
            value = parse_json(line, path)
        except DataError as error:
            problems.add("bad-annotation", f"{path}:{number}", error.message.rpartition("JSON: ")[2])
            continue
        if isinstance(value, dict):
            yield number, value
        else:
            problems.add("bad-annotation", f"{path}:{number}", f"expected an object, got {line[:60]!r}")


_ENCODING = re.compile(rb"\s*<\?xml[^>]{0,80}encoding=[\"']((?:gb|big5|shift_jis|sjis|cp9|euc)[\w-]{0,12})[\"']", re.I)


def _not_utf8(data: bytes) -> str:
    """Return what to do about XML in an encoding that it does not state; "" for any other."""
    try:
        data.decode("utf-8")
    except UnicodeError:
        return ', nor is it UTF-8: say its encoding in the first line, as <?xml version="1.0" encoding="gb18030"?>'
    return ""


def read_xml(path: Path, *, limit: int = 256 * MIB) -> ElementTree.Element:
    """Return the root of an XML file of at most `limit` bytes.

    Raises DataError for invalid XML, and for XML that declares entities: a few lines of them can expand to gigabytes,
    and no annotation tool writes any. Errors of the path are those of `inputs.open_input`.
    """
    data = read_bytes(path, limit=limit)
    if b"<!ENTITY" in data.replace(b"\0", b""):  # UTF-16 has zeros between the letters
        raise DataError(f"{path}: it declares entities, which no annotation needs", hint="remove the <!DOCTYPE ...>")
    try:
        declared = _ENCODING.match(data)
        if declared is None:
            return ElementTree.fromstring(data)
        codec = declared[1].decode().lower()  # of several bytes, which the parser does not know
        return ElementTree.fromstring(data.decode("gb18030" if codec.startswith("gb") else codec))
    except ElementTree.ParseError as error:
        line = error.position[0]
        raise DataError(f"{path}:{line}: not valid XML: {str(error).partition(':')[0]}{_not_utf8(data)}") from None
    except (ValueError, LookupError, RecursionError) as error:  # an unknown encoding, or one that does not hold
        raise DataError(f"{path}: not valid XML: {error}") from None
