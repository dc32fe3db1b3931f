"""Read the wire format of Protocol Buffers field by field and strictly, without generated code.

This suffices to check a model file before a library loads it: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10


class ProtobufProblem(ValueError):
    """The bytes are not a message."""


def fields(message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Yield (field number, wire type, value) of a message: the number of a varint, the bytes of everything else.

    Raises ProtobufProblem if the bytes are not a message; nothing is copied.
    """
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise ProtobufProblem(f"field number {number}")
        if kind == VARINT:
            value, at = _varint(message, at)
            yield number, kind, value
            continue
        if kind == BYTES:
            size, at = _varint(message, at)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise ProtobufProblem(f"wire type {kind}")
        if size > end - at:
            raise ProtobufProblem("it is cut off")
        yield number, kind, message[at : at + size]
        at += size


def signed(value: int) -> int:
    """Return the signed 64-bit number of a varint."""
    return value - (1 << 64) if value >= 1 << 63 else value


def packed_varints(message: memoryview) -> Iterator[int]:
    """Yield the signed numbers of a packed field."""
    at = 0
    while at < len(message):
        value, at = _varint(message, at)
        yield signed(value)


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(message[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            if value >= 1 << 64:
                raise ProtobufProblem("a number is too large")
            return value, at + count + 1
    raise ProtobufProblem("a number has no end")
