"""Thrift's compact protocol, in which Parquet writes its headers, and its runs of levels and indices.

See https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md and
https://parquet.apache.org/docs/file-format/data-pages/encodings/.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shitu_cli.errors import DataError
from shitu_cli.stores.ranges import WHOLE

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
MAX_DEPTH = 16
Fields = dict[int, Any]  # numbers, bytes, lists and such structures themselves, by number


class ThriftReader:
    """Reads values from the front of some bytes; DataError if they end or make no sense."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.at, self._name = data, 0, name

    def damaged(self) -> DataError:
        return damaged(self._name)

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.bytes(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise self.damaged()

    def bytes(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        if not 0 <= count <= len(self.data) - self.at:
            raise self.damaged()
        self.at += count
        return self.data[self.at - count : self.at]

    def structure(self, depth: int = 0) -> Fields:
        """Return the fields of a structure by their numbers."""
        fields: Fields = {}
        number = 0
        while True:
            head = self.bytes(1)[0]
            if head == 0:
                return fields
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            kind = head & 15
            fields[number] = int(kind == _TRUE) if kind in (_TRUE, _FALSE) else self._value(kind, depth)

    def _zigzag(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def _value(self, kind: int, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise self.damaged()
        if kind in (_I16, _I32, _I64):
            return self._zigzag()
        if kind == _STRUCT:
            return self.structure(depth + 1)
        if kind in (_TRUE, _FALSE, _BYTE, _DOUBLE):  # a truth value has a byte of its own in a list
            return self.bytes(8 if kind == _DOUBLE else 1)
        if kind == _BINARY:
            return self.bytes(self.varint())
        if kind not in (_LIST, _SET):
            raise self.damaged()
        head = self.bytes(1)[0]
        count = head >> 4 if head >> 4 < 15 else self.varint()
        if count > len(self.data) - self.at:  # each takes a byte at least
            raise self.damaged()
        return [self._value(head & 15, depth + 1) for _ in range(count)]


def damaged(name: str) -> DataError:
    """Return the error for a Parquet file that makes no sense."""
    return DataError(f"{name}: the Parquet file is damaged", hint=WHOLE)


def number_in(fields: object, key: int, missing: int = 0) -> int:
    """Return a number within a structure that is not negative; `missing` if there is none."""
    value = fields.get(key) if isinstance(fields, dict) else None
    return value if isinstance(value, int) and value >= 0 else missing


def fields_in(fields: object, key: int) -> Fields:
    """Return a structure within another one, empty if there is none."""
    value = fields.get(key) if isinstance(fields, dict) else None
    return value if isinstance(value, dict) else {}


def list_in(fields: object, key: int) -> list[Any]:
    """Return a list within a structure, empty if there is none."""
    value = fields.get(key) if isinstance(fields, dict) else None
    return value if isinstance(value, list) else []


def read_runs(data: bytes, width: int, count: int, name: str) -> np.ndarray:
    """Return `count` numbers of `width` bits, int64, from runs of equal ones and of packed ones in turn."""
    reader, values = ThriftReader(data, name), np.zeros(count, np.int64)
    if width == 0:
        return values
    size = (width + 7) // 8
    done = 0
    while done < count:
        head = reader.varint()
        if head & 1:
            groups = min(head >> 1, -(-(count - done) // 8))
            packed = reader.bytes(min(groups * width, len(data) - reader.at))  # the last group may be cut off
            bits = np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little")
            run = bits[: len(bits) // width * width].reshape(-1, width) @ (1 << np.arange(width, dtype=np.int64))
        else:
            value = int.from_bytes(reader.bytes(size), "little")
            run = np.full(min(head >> 1, count - done), value, np.int64)
        if not len(run):
            raise reader.damaged()
        taken = min(len(run), count - done)
        values[done : done + taken] = run[:taken]
        done += taken
    return values
