"""Bounds of what a Parquet file unpacks to, from its table of contents and the headers of its pages.

Runs of equal values take a few bytes, however long they are. Libraries believe a file and take memory for all of them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from shitu_cli.errors import DataError
from shitu_cli.inputs import EXPANDS, MIB
from shitu_cli.stores.footer import Chunk, read_footer
from shitu_cli.stores.ranges import Ranged
from shitu_cli.stores.thrift import ThriftReader, damaged, fields_in, number_in

MAX_PAGE = 512 * MIB
HEADER = 1 << 16  # bytes; no header of a page is longer, statistics included
DATA, DICTIONARY, DATA_V2 = 0, 2, 3  # kinds of pages
_PREFIXES = 7  # the encoding of texts that repeats the beginnings of those before
ROW = 100  # bytes of memory that a row of texts or images takes at least


class Held(NamedTuple):
    """What the columns that were looked at hold: `rows` of the file, all `values` by the number of the column."""

    rows: int
    values: dict[int, int]


def look_into(file: Ranged, numbers: Collection[int], *, what: str) -> Held:
    """Return what these columns hold, after a look at all headers of their pages.

    Raises DataError if the headers contradict the table of contents, or if the rows or pages unpack to more than
    sixty-four times the size of the file, as no file of `what` does.
    """
    _, groups = read_footer(file)
    rows, unpacked = sum(group.rows for group in groups), 0
    check_size(file, rows * ROW, what=what)
    values = dict.fromkeys(numbers, 0)
    for group in groups:
        for number in numbers:
            if number >= len(group.chunks):
                raise damaged(file.name)
            unpacked += _unpacked_bytes(file, group.chunks[number])
            check_size(file, unpacked, what=what)
            values[number] += group.chunks[number].values
    return Held(rows, values)


def check_size(file: Ranged, unpacked: int, *, what: str) -> None:
    """Raise DataError if so many bytes are more than a file of `what` unpacks to."""
    if unpacked > EXPANDS * file.size + MIB:
        raise DataError(
            f"{file.name} expands to many times its size, as no file of {what} does",
            hint="write it without the rows that repeat each other",
        )


def _unpacked_bytes(file: Ranged, chunk: Chunk) -> int:
    """Return the unpacked bytes of a chunk's pages, which hold as many values as it says."""
    at, values, unpacked = chunk.start, 0, 0
    while at < chunk.stop:
        reader = ThriftReader(file.read_at(at, min(HEADER, chunk.stop - at)), file.name)
        head = reader.structure()
        kind, size, packed = (number_in(head, key) for key in (1, 2, 3))
        at += reader.at + packed
        if at > chunk.stop or size > MAX_PAGE:
            raise damaged(file.name)
        unpacked += size
        if kind in (DATA, DATA_V2):
            block = fields_in(head, 5 if kind == DATA else 8)
            values += number_in(block, 1)
            if number_in(block, 2 if kind == DATA else 4) == _PREFIXES:
                raise DataError(
                    f"{file.name}: an encoding of Parquet that is not supported ({_PREFIXES})",
                    hint="write its texts with the encoding PLAIN",
                )
    if values != chunk.values:
        raise damaged(file.name)
    return unpacked
