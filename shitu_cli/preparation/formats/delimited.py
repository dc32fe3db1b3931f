"""Tables and lists as text: their encoding, separator, heading, and their rows as cells."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shitu_cli.data.images import IMAGE_SUFFIXES
from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.encoding import read_list_text
from shitu_cli.preparation.formats.text_files import csv_rows, lines_of, rough_text
from shitu_cli.preparation.formats.values import is_number
from shitu_cli.preparation.problems import Problems

SUFFIXES = (".csv", ".tsv", ".txt", ".lst", ".list")
FIRST = 100  # rows of a file that are looked at in any case
SAMPLED = 2000  # rows of a file that decide what its columns are
LONG = 1 << 20  # characters of a file of which only some rows are looked at to decide what its columns are
IMAGE_SUFFIX = "|".join(re.escape(suffix[1:]) for suffix in sorted(IMAGE_SUFFIXES, reverse=True))
# The end of an image's name inside a line: what follows it is a separator.
_PATH_END = re.compile(rf'\.(?:{IMAGE_SUFFIX})(?P<close>"?)(?=[ \t,;|]|$)', re.I)
_SEPARATOR = re.compile(r" +(?:[-=]*>|[=:→]) +(?=\S)|[ \t]*([,;|]?)[ \t]*")  # people also write `path -> label`
_SEP_LINE = re.compile(r"sep=(.)\s*")
IMAGE_NAME = re.compile(rf"\.(?:{IMAGE_SUFFIX})\b", re.I)
_SIGNS = " \t,;|"  # all that a line without content holds
MOST_TITLES = 5  # lines above the header of a table
MAX_LINE = 1 << 16  # characters; a longer line is not a line of a list


@dataclass
class Sheet:
    """A text file of rows. `name` is its path relative to the source's base.

    `header` holds the names of the columns of a table; None is a list, whose rows are a path and what follows it.
    """

    path: Path
    name: str
    text: str
    delimiter: str = ""
    header: list[str] | None = None
    start: int = 0  # lines before the header
    unit: str = ""  # what a row is called in messages, such as entry {}; lines without one
    exists: Callable[[str], bool] | None = None  # whether a path of it leads to an image as it is spelt
    is_known: Callable[[str], bool] | None = None  # whether it leads to one that is elsewhere

    @property
    def folder(self) -> str:
        """The folder of the file, relative to the source's base; "" for the base."""
        return self.name.rpartition("/")[0]

    def where(self, line: int) -> str:
        """Return the place of a line for messages."""
        return f"{self.path}: {self.unit.format(line)}" if self.unit else f"{self.path}:{line}"

    def rows(self, problems: Problems | None = None) -> Iterator[tuple[int, Sequence[str]]]:
        """Yield line number and cells of each row; those that cannot be read are reported, and left out."""
        return self._table_rows(problems) if self.header is not None else self._list_rows(problems)

    def sample(self) -> list[tuple[int, Sequence[str]]]:
        """Return the first rows, and others evenly spread over the file, at most about SAMPLED of them.

        Where rows of a class stand together, only the first ones show what they have in common.

        Line numbers of a long file count from the first of the rows.
        """
        if len(self.text) > LONG and '"' not in self.text:  # each line is a row: most need not be looked at
            return list(replace(self, text=self._some_lines()).rows())
        first, rows = list[tuple[int, Sequence[str]]](), list[tuple[int, Sequence[str]]]()
        step = 1
        for number, row in enumerate(self.rows()):
            if number < FIRST:
                first.append(row)
            elif number % step == 0:
                rows.append(row)
            if len(rows) >= 2 * SAMPLED:
                rows, step = rows[::2], step * 2
        return first + rows

    def _some_lines(self) -> str:
        """Return the first lines, and others evenly spread over the file."""
        first = self.text.find("\n", 4096) + 1
        parts, step = [self.text[:first]], (len(self.text) - first) // SAMPLED
        for place in range(first, len(self.text) - step, step):
            start = self.text.find("\n", place) + 1
            end = self.text.find("\n", start) + 1
            if start and end:
                parts.append(self.text[start:end])
        return "".join(parts)

    def _table_rows(self, problems: Problems | None) -> Iterator[tuple[int, Sequence[str]]]:
        lines = lines_of(self.text)
        for _ in range(self.start):
            next(lines, None)
        width, first = len(self.header or ()), (self.header or [""])[0]
        whole = (line.rstrip("\r") + "\n" for line in lines)
        rows = csv_rows(whole, self.delimiter, self.path, problems, self.start)
        next(rows, None)  # the header
        for line, cells in rows:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) == width + 1 and not cells[-1].strip():
                cells.pop()  # a separator at the end of the line
            if len(cells) == width:
                row = [cell.strip() for cell in cells]
                if row[0].lstrip("\ufeff") != first or row[1:] != (self.header or ())[1:]:
                    yield line, row
                elif problems is not None:  # tables that were joined
                    problems.add("heading", self.where(line), repr(self.delimiter.join(row)))
            elif problems is not None:
                problems.add("malformed", self.where(line), f"{len(cells)} cells, the header has {width}")

    def _list_rows(self, problems: Problems | None) -> Iterator[tuple[int, Sequence[str]]]:
        from shitu_cli.preparation.formats.textlist import list_rows

        return list_rows(self, problems)


def open_sheet(
    path: Path,
    name: str,
    problems: Problems,
    encoding: str | None = None,
    exists: Callable[[str], bool] | None = None,
) -> Sheet:
    """Read a file and find its header; errors are those of `read_list_text`."""
    sheet = Sheet(path, name, read_list_text(path, problems, encoding, exists))
    lines = [line.rstrip("\r") for _, line in zip(range(60), lines_of(sheet.text), strict=False)]
    if (table := _find_header(lines)) is not None:
        sheet.header, sheet.delimiter, sheet.start = table
        for number, line in enumerate(lines[: sheet.start], 1):
            if line.strip(_SIGNS) and not line.startswith("# ") and not _SEP_LINE.fullmatch(line):
                problems.add("heading", sheet.where(number), repr(line.strip(_SIGNS)[:80]))
    return sheet


def read_table(path: Path, problems: Problems) -> tuple[list[str], Iterator[tuple[int, Sequence[str]]]]:
    """Return the names of a table's columns, and its rows with their lines; lines of another width are reported.

    Raises DataError for a file without a header, and where it cannot be read.
    """
    sheet = open_sheet(path, path.name, problems)
    if sheet.header is None:
        raise DataError(f"{path}: no header with the names of columns, and rows of as many cells below it")
    return sheet.header, sheet.rows(problems)


def header_of(head: bytes) -> list[str]:
    """Return the names of a table's columns by the first bytes of its file, to recognise it by; [] for no table."""
    table = _find_header(rough_text(head).splitlines()[:60])
    return table[0] if table is not None else []


def _find_header(lines: list[str]) -> tuple[list[str], str, int] | None:
    """Return the names of the columns, what separates them, and the number of lines above; None for no table."""
    start, forced = 0, None
    if lines and (match := _SEP_LINE.fullmatch(lines[0])):  # what Excel writes and reads
        start, forced = 1, match[1]
    while start < len(lines) and (not lines[start].strip() or lines[start].startswith("# ")):
        start += 1
    for at in range(start, min(start + MOST_TITLES, len(lines) - 1) + 1):
        if (table := _header(lines[at:], forced)) is not None:
            return *table, at
        if not lines[at:] or not _is_title(lines[at]):
            break
    return None


def _is_title(line: str) -> bool:
    """Return whether a line may precede the header of a table: blank, or a single cell that names no image."""
    text = line.strip(_SIGNS)
    return not any(sign in text for sign in "\t,;|") and not IMAGE_NAME.search(text[:MAX_LINE])


def _header(lines: list[str], forced: str | None) -> tuple[list[str], str] | None:
    """Return the names of the columns and the separator; None unless it is a table with a header."""
    best: tuple[list[str], str] | None = None
    for delimiter in (forced,) if forced else ("\t", ";", ",", "|"):
        try:
            rows = [row for row in csv.reader([f"{line}\n" for line in lines], delimiter=delimiter) if row]
        except csv.Error:
            continue
        if len(rows) < 2 or len(rows[0]) < 2:
            continue
        width = len(rows[0])
        fitting = sum(len(row) in (width, width + 1) for row in rows[1:])
        if fitting * 2 > len(rows) - 1 and (best is None or width > len(best[0])):
            best = [cell.strip().lstrip("\ufeff") for cell in rows[0]], delimiter
    if best is None or not _are_names(best[0]):
        return None
    return best


def _are_names(cells: list[str]) -> bool:
    """Return whether cells may be names of columns: no images, no numbers, none twice."""
    named = [cell for cell in cells if cell]
    last = max((n for n, cell in enumerate(cells) if cell), default=0)  # empty columns at the end mean nothing
    if len(named) < last or len(set(named)) < len(named) or not named or (last == 0 and len(cells) > 2):
        return False
    return not any(IMAGE_NAME.search(cell) or is_number(cell.replace(",", ".", 1)) or len(cell) > 80 for cell in named)


def split_line(line: str, *is_there: Callable[[str], bool] | None) -> tuple[str, str, str] | None:
    """Split `path label ...` into the path, the separator and the rest; None if no name of an image ends in it.

    A name may hold blanks and commas: it ends with the suffix of an image. Where that can be in several places, the
    first that is an image counts, by the first of `is_there` that knows any, else the first. After a tab everything is
    the label.
    """
    if len(line) > MAX_LINE:
        return None
    ends = [match.end() for match in _PATH_END.finditer(line) if match.start() > 0]
    before, tab, _ = line.partition("\t")
    if tab and len(before) in ends:
        ends = [len(before)]
    if not ends:
        return None
    known = (
        place
        for exists in is_there
        for place in ends
        if len(ends) > 1 and exists is not None and exists(line[:place].strip(' "'))
    )
    end = next(known, ends[0])
    separator = _SEPARATOR.match(line, end)
    assert separator is not None
    sign = separator[1] or ("\t" if "\t" in separator[0] else " " if separator[0] else "")
    return line[:end], sign, line[separator.end() :]
