"""Check a faiss file before faiss reads it.

faiss trusts the numbers in a file: a wrong count makes it allocate all memory, and a wrong number in a graph or a list
makes a later search read out of bounds. So the file is walked here first, and only the kinds that this program searches
pass: flat, hnsw and ivf of float vectors, flat of bits, each with or without a map of ids. The layout is that of
faiss's `index_read.cpp`; all numbers are little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shitu_cli.errors import DataError
from shitu_cli.index.store import AGAIN, MAX_SIZE
from shitu_cli.inputs import open_input
from shitu_cli.runtime.memory import require_room

MAX_LEVELS = 64  # of an hnsw graph; 6 are usual
MAX_EFFORT = 1 << 20  # construction and search efforts that a file may ask for
INNER_PRODUCT, L2 = 0, 1  # faiss's numbers of metrics
_FLAT = {b"IxFI": INNER_PRODUCT, b"IxF2": L2}


class _Damage(ValueError):
    """Says what is wrong with a file."""


@dataclass(frozen=True)
class FaissFile:
    """The contents of a file: `count` vectors of `size` values, a multiple of 8 for binary; `end` in bytes.

    `ids` are int64 [count], None in a file without a map of ids; `vectors` are float32 [count, size], mapped from the
    file, None for kinds other than flat.
    """

    kind: str
    size: int
    count: int
    metric: int
    ids: np.ndarray | None
    vectors: np.ndarray | None
    end: int


@dataclass(frozen=True)
class _Header:
    size: int
    count: int
    metric: int


def check_faiss(path: Path) -> FaissFile:
    """Return the contents of the file; DataError if it is damaged, forged or of an unsupported kind."""
    with open_input(path, hint=AGAIN) as file:
        try:
            return _read_file(_Cursor(np.memmap(file, np.uint8, mode="r")), path)
        except ValueError as error:  # also raised for an empty file, which cannot be mapped
            raise DataError(f"{path} is damaged: {error}", hint=AGAIN) from None


class _Cursor:
    """A position in a mapped file; never reads past the end of the file."""

    def __init__(self, data: np.ndarray) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> np.ndarray:
        """Return the next bytes, uint8 [count], still mapped."""
        if not 0 <= count <= len(self.data) - self.at:
            raise _Damage(f"it ends after {len(self.data):,} bytes, but its header promises more")
        self.at += count
        return self.data[self.at - count : self.at]

    def numbers(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{layout}", self.take(struct.calcsize(f"<{layout}")).tobytes())

    def code(self) -> bytes:
        """Return the four letters by which faiss names a class."""
        return self.take(4).tobytes()

    def vector(self, dtype: str, count: int | None = None, most: int | None = None) -> np.ndarray:
        """Return a vector that is preceded by its length: exactly `count` or at most `most` elements."""
        length = int(self.numbers("Q")[0])
        if (count is not None and length != count) or (most is not None and length > most):
            raise _Damage("the lengths of its tables contradict each other")
        return self.array(dtype, length)

    def array(self, dtype: str, count: int) -> np.ndarray:
        kind = np.dtype(dtype)
        return self.take(count * kind.itemsize).view(kind)

    def last(self, dtype: str, count: int) -> np.ndarray:
        """Return elements that were taken just now."""
        kind = np.dtype(dtype)
        return self.data[self.at - count * kind.itemsize : self.at].view(kind)


def _read_file(cursor: _Cursor, path: Path) -> FaissFile:
    code = cursor.code()
    has_ids = code in (b"IxMp", b"IxM2", b"IBMp", b"IBM2")
    outer = None
    if has_ids:
        outer = _binary_header(cursor) if code[:2] == b"IB" else _header(cursor)
        code = cursor.code()
    kind, inner = _read_index(cursor, code)
    if outer not in (None, inner):
        raise _Damage("its map of ids and its vectors contradict each other")
    vectors = cursor.last("<f4", inner.count * inner.size).reshape(inner.count, inner.size) if kind == "flat" else None
    require_room(2 * 8 * inner.count if has_ids else 0, path)
    ids = cursor.vector("<i8", inner.count).astype(np.int64) if has_ids else None
    if ids is not None and len(ids) and (ids.min() < 0 or not _are_distinct(ids)):
        raise _Damage("its ids are not all different")
    return FaissFile(kind, inner.size, inner.count, inner.metric, ids, vectors, cursor.at)


def _are_distinct(numbers: np.ndarray) -> bool:
    """Return whether no number occurs twice; np.unique would load numpy.ma, which a search needs for nothing else."""
    ordered = np.sort(numbers)
    return not (ordered[1:] == ordered[:-1]).any()


def _read_index(cursor: _Cursor, code: bytes) -> tuple[str, _Header]:
    """Read past an index without a map of ids; return its kind and header."""
    if code == b"IBxF":
        header = _binary_header(cursor)
        cursor.vector("u1", header.count * (header.size // 8))
        return "binary", header
    if code in _FLAT:
        return "flat", _flat(cursor, code)
    if code == b"IHNf":
        return "hnsw", _hnsw(cursor)
    if code == b"IwFl":
        return "ivf", _ivf(cursor)
    raise _Damage(f"it is a faiss index of a kind that is not supported ({code.decode('latin-1')!r})")


def _header(cursor: _Cursor) -> _Header:
    size, count, _, _, is_trained, metric = cursor.numbers("iqqqBi")
    if not 0 < size <= MAX_SIZE or count < 0 or is_trained != 1 or metric not in (INNER_PRODUCT, L2):
        raise _Damage(f"it claims {count} vectors of {size} values and the metric {metric}")
    return _Header(size, count, metric)


def _binary_header(cursor: _Cursor) -> _Header:
    size, code_size, count, is_trained, metric = cursor.numbers("iiqBi")
    if not 0 < size <= MAX_SIZE or size != code_size * 8 or count < 0 or is_trained != 1 or metric not in (0, 1):
        raise _Damage(f"it claims {count} vectors of {size} bits")
    return _Header(size, count, metric)


def _flat(cursor: _Cursor, code: bytes) -> _Header:
    header = _header(cursor)
    if header.metric != _FLAT[code]:
        raise _Damage("its kind and its metric contradict each other")
    cursor.vector("<f4", header.count * header.size)
    return header


def _hnsw(cursor: _Cursor) -> _Header:
    header = _header(cursor)
    chances = cursor.vector("<f8", most=MAX_LEVELS)
    starts = cursor.vector("<i4", len(chances) + 1).astype(np.int64)
    levels = cursor.vector("<i4", header.count)
    offsets = cursor.vector("<u8", header.count + 1).astype(np.int64)
    neighbours = cursor.vector("<i4")
    entry, top, building, searching, _ = cursor.numbers("iiiii")
    if not len(chances) or not ((chances >= 0) & (chances <= 1)).all():
        raise _Damage("its graph has no valid levels")
    if (
        starts[0] != 0
        or (np.diff(starts) <= 0).any()
        or not 0 < building <= MAX_EFFORT
        or not 0 < searching <= MAX_EFFORT
    ):
        raise _Damage("its graph has no valid parameters")
    if header.count:
        _check_graph(levels, offsets, neighbours, starts, entry, top)
    elif entry != -1 or len(neighbours) or offsets[0]:
        raise _Damage("its graph has nodes, but no vectors")
    storage, inner = _read_index(cursor, cursor.code())
    if storage != "flat" or inner != header:
        raise _Damage("its graph and its vectors contradict each other")
    return header


def _check_graph(
    levels: np.ndarray, offsets: np.ndarray, neighbours: np.ndarray, starts: np.ndarray, entry: int, top: int
) -> None:
    """Raise _Damage if a walk through the graph could leave it.

    Node n is on levels 0 … levels[n] - 1; its neighbours on level l are those from offsets[n] + starts[l] to
    offsets[n] + starts[l + 1], and -1 where it has fewer.
    """
    count = len(levels)
    if levels.min() < 1 or levels.max() >= len(starts) or offsets[0] != 0:
        raise _Damage("its graph has a node on no level")
    if (np.diff(offsets) != starts[levels]).any() or offsets[-1] != len(neighbours):
        raise _Damage("the nodes of its graph overlap")
    if len(neighbours) and (neighbours.min() < -1 or neighbours.max() >= count):
        raise _Damage("its graph leads to a node that does not exist")
    if not 0 <= entry < count or levels[entry] - 1 != top or levels.max() - 1 != top:
        raise _Damage("its graph has no valid entry")
    for level in range(1, top + 1):
        nodes = np.flatnonzero(levels > level)
        slots = offsets[nodes, None] + np.arange(starts[level], starts[level + 1])
        neighbour_nodes = neighbours[slots.ravel()]
        if (levels[neighbour_nodes[neighbour_nodes >= 0]] <= level).any():
            raise _Damage("its graph leads to a node that is not on that level")


def _ivf(cursor: _Cursor) -> _Header:
    header = _header(cursor)
    lists, effort = cursor.numbers("QQ")
    quantizer, centres = _read_index(cursor, cursor.code())
    if quantizer != "flat" or centres.size != header.size or centres.count != lists or not lists:
        raise _Damage("its lists and their centres contradict each other")
    if not 0 < effort <= MAX_EFFORT:
        raise _Damage("its search has no valid parameters")
    direct, entries = cursor.numbers("BQ")
    if direct or entries:
        raise _Damage("it keeps a direct map, which is not supported")
    code, count, code_size, layout = cursor.numbers("4sQQ4s")
    if code != b"ilar" or count != lists or code_size != 4 * header.size:
        raise _Damage("its lists are of a kind that is not supported")
    sizes = _list_sizes(cursor, layout, lists)
    if sizes.max(initial=0) > header.count or sizes.sum() != header.count:
        raise _Damage("its lists do not hold its vectors")
    positions = np.empty(header.count, np.int64)
    end = 0
    for size in sizes[sizes > 0].tolist():
        cursor.take(size * code_size)
        positions[end : end + size] = cursor.array("<i8", size)
        end += size
    if not np.array_equal(np.sort(positions), np.arange(header.count)):
        raise _Damage("its lists do not hold each vector once")
    return header


def _list_sizes(cursor: _Cursor, layout: bytes, lists: int) -> np.ndarray:
    """Return the number of vectors in each list, uint64 [lists]."""
    if layout == b"full":
        return cursor.vector("<u8", lists)
    if layout != b"sprs":
        raise _Damage("its lists are of a kind that is not supported")
    pairs = cursor.vector("<u8", most=2 * lists)
    if len(pairs) % 2 or pairs[::2].max(initial=0) >= lists or not _are_distinct(pairs[::2]):
        raise _Damage("the lengths of its lists contradict each other")
    sizes = np.zeros(lists, np.uint64)
    sizes[pairs[::2].astype(np.int64)] = pairs[1::2]
    if (np.diff(pairs[::2].astype(np.int64)) <= 0).any():
        raise _Damage("its lists are not in order")
    return sizes
