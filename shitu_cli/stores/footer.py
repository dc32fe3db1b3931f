"""The table of contents of a Parquet file, read by own code: native libraries may end the program over a damaged one.

See https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from shitu_cli.errors import DataError
from shitu_cli.inputs import MIB
from shitu_cli.stores.ranges import Ranged
from shitu_cli.stores.thrift import Fields, ThriftReader, damaged, fields_in, list_in, number_in

MAX_FOOTER = 128 * MIB
MAX_COLUMNS = 100_000
_MARK, _ENCRYPTED = b"PAR1", b"PARE"
_BYTES = 6  # the physical type of texts and bytes
_TEXTS, _LOGICAL_TEXTS = (0, 4, 19), (1, 4, 12)  # texts, enumerations, JSON
_OPTIONAL, _REPEATED = 1, 2


class Column(NamedTuple):
    """A column of bytes: its name, its number, and the level at which a value is there."""

    name: str
    number: int
    level: int


class Chunk(NamedTuple):
    """The pages of a column in a row group: `values` between two places of the file, packed by `codec`."""

    codec: int
    start: int
    stop: int
    values: int


class Group(NamedTuple):
    """A row group: its number of rows, and its chunks by the number of their column."""

    rows: int
    chunks: list[Chunk]


def read_footer(file: Ranged) -> tuple[list[Column], list[Group]]:
    """Return the columns of bytes, one value in a row, and the row groups. Raises DataError for a damaged file."""
    if file.size < 12:
        raise damaged(file.name)
    tail = file.read_at(file.size - 8, 8)
    if tail[4:] == _ENCRYPTED:
        raise DataError(f"{file.name}: an encrypted Parquet file cannot be read", hint="write it without encryption")
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MARK or file.read_at(0, 4) != _MARK or length > min(MAX_FOOTER, file.size - 12):
        raise damaged(file.name)
    fields = ThriftReader(file.read_at(file.size - 8 - length, length), file.name).structure()
    leaves = list(_leaves(list_in(fields, 2), file.name))
    columns = [
        Column(path.removesuffix(".bytes"), number, level)
        for number, (path, level, repeated, element) in enumerate(leaves)
        if not repeated and number_in(element, 1, -1) == _BYTES and not _is_text(element)
    ]
    groups = []
    for group in list_in(fields, 4):
        chunks = [_chunk(fields_in(chunk, 3), file) for chunk in list_in(group, 1)]
        rows = number_in(group, 3)
        if len(chunks) != len(leaves) or any(chunks[column.number].values != rows for column in columns):
            raise damaged(file.name)
        groups.append(Group(rows, chunks))
    return columns, groups


def _leaves(elements: list[object], name: str) -> Iterator[tuple[str, int, bool, object]]:
    """Yield path, level, whether it is repeated, and the element of each column of a schema, given in depth first."""
    if not elements or len(elements) > MAX_COLUMNS:
        raise damaged(name)
    # Of each structure that is open: how many members are left, its path, level, and whether it is repeated.
    above = [(number_in(elements[0], 5), "", 0, False)]
    for element in elements[1:]:
        while above and not above[-1][0]:
            above.pop()
        if not above:
            raise damaged(name)
        left, prefix, level, repeated = above.pop()
        above.append((left - 1, prefix, level, repeated))
        spelt = element.get(4) if isinstance(element, dict) else None
        if not isinstance(spelt, bytes):
            raise damaged(name)
        kind, path = number_in(element, 3), f"{prefix}{spelt.decode('utf-8', 'replace')}"
        level, repeated = level + (kind in (_OPTIONAL, _REPEATED)), repeated or kind == _REPEATED
        if children := number_in(element, 5):
            above.append((children, f"{path}.", level, repeated))
        else:
            yield path, level, repeated, element


def _is_text(element: object) -> bool:
    return number_in(element, 6, -1) in _TEXTS or any(key in _LOGICAL_TEXTS for key in fields_in(element, 10))


def _chunk(meta: Fields, file: Ranged) -> Chunk:
    first, dictionary = number_in(meta, 9), number_in(meta, 11)
    start = min(first, dictionary) if dictionary else first
    stop = start + number_in(meta, 7)
    if not meta or stop > file.size:
        raise damaged(file.name)
    return Chunk(number_in(meta, 4), start, stop, number_in(meta, 5))
