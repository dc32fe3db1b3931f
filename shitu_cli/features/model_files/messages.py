"""The parts of Protocol Buffers messages that the readers of ONNX and Paddle files have in common."""

from __future__ import annotations

from collections.abc import Iterator

from shitu_cli.inputs.protobuf import BYTES, fields, packed_varints, signed


def nested(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield (field number, bytes) of the fields that are not numbers: messages, texts, packed numbers."""
    return ((number, value) for number, _, value in fields(message) if isinstance(value, memoryview))


def text_of(value: memoryview) -> str:
    """Return a text; bytes that are not UTF-8 become escapes."""
    return bytes(value).decode("utf-8", "backslashreplace")


def whole_numbers(kind: int, value: int | memoryview) -> Iterator[int]:
    """Yield the signed numbers of a field of this wire type: one, or all of a packed field."""
    if isinstance(value, int):
        yield signed(value)
    elif kind == BYTES:
        yield from packed_varints(value)
