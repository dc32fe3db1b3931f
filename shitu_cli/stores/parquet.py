"""Parquet files with encoded images in a column, the Hugging Face way, read at random.

Libraries read whole row groups of hundreds of images at a time. Here the place of each image within its page is looked
up once: an image of an uncompressed page is then read alone, another one with its page of about a megabyte.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from shitu_cli.errors import DataError, require_package
from shitu_cli.inputs import EXPANDS, MIB
from shitu_cli.stores.footer import Chunk, read_footer
from shitu_cli.stores.member_index import Member, MemberIndex
from shitu_cli.stores.parquet_pages import DATA, DATA_V2, DICTIONARY, HEADER, MAX_PAGE, ROW, check_size
from shitu_cli.stores.ranges import WHOLE, Ranged, Stream
from shitu_cli.stores.thrift import Fields, ThriftReader, damaged, fields_in, number_in, read_runs

CODECS = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}  # by the numbers of Parquet
KEPT = 512 * MIB  # bytes of unpacked pages in memory
MAX_MEMBERS = 50_000_000  # of a file, each about a hundred bytes of memory
WHAT = "images"
MAX_VALUES = 10_000_000  # in a page; the usual ones of a megabyte have at most that many
_PLAIN, _PLAIN_DICTIONARY, _RLE_DICTIONARY = 0, 2, 8
_KINDS = ((b"\xff\xd8", "jpg"), (b"\x89PNG", "png"), (b"RIFF", "webp"), (b"GIF8", "gif"), (b"BM", "bmp"))


@contextmanager
def opened(file: Ranged, *, texts: Sequence[str] = ()) -> Iterator[Any]:
    """Yield a file as pyarrow's ParquetFile, which reads columns of `texts` as numbers of a dictionary.

    Raises DataError for damage found inside the context, EnvironmentProblem if pyarrow is not installed.
    """
    pyarrow, parquet = (require_package(module, "parquet", file.name) for module in ("pyarrow", "pyarrow.parquet"))
    try:
        with parquet.ParquetFile(pyarrow.PythonFile(Stream(file, MAX_PAGE), "r"), read_dictionary=list(texts)) as table:
            yield table
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as problem:  # texts are not validated
        raise DataError(f"{file.name}: cannot be read as Parquet ({problem})", hint=WHOLE) from None


def index_parquet(file: Ranged) -> MemberIndex:
    """Return the index of a Parquet file: a member `column/row.suffix` for each value of its columns of bytes."""
    members: dict[str, Member] = {}
    most = min(MAX_MEMBERS, (EXPANDS * file.size + MIB) // ROW)
    columns, groups = read_footer(file)
    check_size(file, sum(group.rows for group in groups) * ROW, what=WHAT)
    first = 0
    for group in groups:
        for column in columns:
            for row, suffix, member in _Values(file, group.chunks[column.number], column.level).all():
                members[f"{column.name}/{first + row}.{suffix}"] = member
                if len(members) > most:
                    check_size(file, len(members) * ROW, what=WHAT)
                    raise damaged(file.name)
        first += group.rows
    return MemberIndex.of(members, {})


class _Page(NamedTuple):
    """What of a page may be compressed: `packed` bytes from `start` on become `content`."""

    start: int
    packed: int
    content: bytes
    method: int

    def place(self, at: int, size: int) -> Member:
        """Return the place of a value of `size` bytes that begins at byte `at` of the content."""
        if self.method == 0:
            return Member(self.start + at, size, size)
        return Member(self.start, size, self.packed, self.method, len(self.content), at)


class _Values:
    """The values of one column in one row group."""

    def __init__(self, file: Ranged, chunk: Chunk, level: int) -> None:
        self.file, self.chunk, self.level = file, chunk, level
        if chunk.codec and chunk.codec not in CODECS:
            raise DataError(
                f"{file.name}: compressed by a method that is not supported (codec {chunk.codec})",
                hint=f"compress it with one of {', '.join(CODECS.values())}",
            )
        self.dictionary: list[tuple[str, Member]] = []

    def all(self) -> Iterator[tuple[int, str, Member]]:
        """Yield row within the group, suffix, and place of each value that is there."""
        at, row, stop = self.chunk.start, 0, self.chunk.stop
        while row < self.chunk.values:
            reader = ThriftReader(self.file.read_at(at, min(HEADER, max(0, stop - at))), self.file.name)
            head = reader.structure()
            kind, size, packed = (number_in(head, key) for key in (1, 2, 3))
            start = at + reader.at
            at = start + packed
            if at > stop or size > MAX_PAGE:
                raise damaged(self.file.name)
            if kind == DICTIONARY:
                page = self._page(start, packed, size, True)
                count = number_in(fields_in(head, 7), 1)
                if count > MAX_VALUES:
                    raise damaged(self.file.name)
                check_size(self.file, count * ROW, what=WHAT)
                self.dictionary = list(self._values(page, 0, count))
            elif kind in (DATA, DATA_V2):
                block = fields_in(head, 5 if kind == DATA else 8)
                count = number_in(block, 1)
                if not 0 < count <= min(MAX_VALUES, self.chunk.values - row):
                    raise damaged(self.file.name)
                read = self._data_page if kind == DATA else self._data_page_v2
                is_present, page, first = read(block, start, packed, size)
                rows = (np.flatnonzero(is_present) + row).tolist()
                encoding = number_in(block, 2 if kind == DATA else 4)
                values = self._decoded(page, first, len(rows), encoding)
                yield from ((n, *value) for n, value in zip(rows, values, strict=True))
                row += count

    def _data_page(self, block: Fields, start: int, packed: int, size: int) -> tuple[np.ndarray, _Page, int]:
        """Return which values of a page are present (bool [rows]), its content, and where the values begin in it."""
        page = self._page(start, packed, size, True)
        if not self.level:
            return np.ones(number_in(block, 1), bool), page, 0
        first = 4 + int.from_bytes(page.content[:4], "little")
        return self._presence(page.content[4:first], block), page, first

    def _data_page_v2(self, block: Fields, start: int, packed: int, size: int) -> tuple[np.ndarray, _Page, int]:
        """Return the same for a page of version 2, whose levels precede the compressed part."""
        before, length = number_in(block, 6), number_in(block, 5)
        skipped = before + length
        if not skipped <= min(packed, size):
            raise damaged(self.file.name)
        levels = self.file.read_at(start + before, length)
        page = self._page(start + skipped, packed - skipped, size - skipped, block.get(7) != 0)
        return self._presence(levels, block), page, 0

    def _presence(self, levels: bytes, block: Fields) -> np.ndarray:
        count = number_in(block, 1)
        if not self.level:
            return np.ones(count, bool)
        return read_runs(levels, self.level.bit_length(), count, self.file.name) == self.level

    def _page(self, start: int, packed: int, size: int, compressed: bool) -> _Page:
        method = self.chunk.codec if compressed else 0
        data = self.file.read_at(start, packed)
        return _Page(start, packed, _unpacked(data, method, size, self.file.name), method)

    def _decoded(self, page: _Page, first: int, count: int, encoding: int) -> list[tuple[str, Member]]:
        """Return suffix and place of the values of a page, which are there or in the dictionary."""
        if encoding == _PLAIN:
            return list(self._values(page, first, count))
        if encoding not in (_PLAIN_DICTIONARY, _RLE_DICTIONARY):
            raise DataError(
                f"{self.file.name}: an encoding of Parquet that is not supported ({encoding})",
                hint="write its column of images with the encoding PLAIN",
            )
        if first >= len(page.content):
            if count:
                raise damaged(self.file.name)
            return []
        width = page.content[first]
        if width > 32:
            raise damaged(self.file.name)
        numbers = read_runs(page.content[first + 1 :], width, count, self.file.name)
        if count and numbers.max() >= len(self.dictionary):
            raise damaged(self.file.name)
        return [self.dictionary[n] for n in numbers.tolist()]

    def _values(self, page: _Page, at: int, count: int) -> Iterator[tuple[str, Member]]:
        """Yield suffix and place of consecutive values, each preceded by its length."""
        for _ in range(count):
            length = int.from_bytes(page.content[at : at + 4], "little")
            at += 4
            if at + length > len(page.content):
                raise damaged(self.file.name)
            suffix = next((name for mark, name in _KINDS if page.content.startswith(mark, at)), "bin")
            yield suffix, page.place(at, length)
            at += length


def _unpacked(data: bytes, method: int, size: int, name: str) -> bytes:
    """Return the unpacked bytes of a page."""
    if method == 0:
        return data
    pyarrow = require_package("pyarrow", "parquet", name)
    try:
        content = pyarrow.decompress(data, size, CODECS[method], asbytes=True) if size else b""
    except (pyarrow.ArrowException, OSError) as problem:
        raise DataError(f"{name}: the Parquet file is damaged ({problem})", hint=WHOLE) from None
    if len(content) != size:
        raise damaged(name)
    return bytes(content)


class _Pages:
    """Unpacked pages, those used last up to a number of bytes: images in order share a page, shuffled ones a file."""

    def __init__(self, limit: int) -> None:
        self._pages: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._left, self._lock = limit, Lock()

    def read(self, file: Ranged, member: Member) -> bytes:
        """Return the content of the page that holds a member; threads may unpack the same page twice."""
        key = (file.name, file.state, member.start)
        with self._lock:
            if key in self._pages:
                self._pages.move_to_end(key)
                return self._pages[key]
        page = _unpacked(file.read_at(member.start, member.packed), member.method, member.check, file.name)
        with self._lock:
            if key not in self._pages:
                self._pages[key] = page
                self._left -= len(page)
            while self._left < 0:
                self._left += len(self._pages.popitem(last=False)[1])
        return page


_pages = _Pages(KEPT)


def read_value(file: Ranged, member: Member) -> bytes:
    """Return the bytes of a value; DataError if the file is damaged."""
    if member.method == 0:
        return file.read_at(member.start, member.size)
    if member.method not in CODECS or not 0 <= member.check <= MAX_PAGE:
        raise damaged(file.name)
    return _pages.read(file, member)[member.inside : member.inside + member.size]
