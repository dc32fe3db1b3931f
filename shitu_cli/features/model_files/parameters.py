"""Read which arrays a `.pdiparams` holds: Paddle's tensors one after another, each behind its own description."""

from __future__ import annotations

import math
from typing import BinaryIO

from shitu_cli.features.model_files.messages import whole_numbers
from shitu_cli.features.model_files.program import ModelProblem
from shitu_cli.inputs.protobuf import ProtobufProblem, fields

# Bytes of an element by Paddle's number of its type.
_WIDTHS = {0: 1, 1: 2, 2: 4, 3: 8, 4: 2, 5: 4, 6: 8, 20: 1, 21: 1, 22: 2}
_MAX_TENSORS = 100_000
_MAX_DESCRIPTION = 1024


def shapes_in(stream: BinaryIO, size: int) -> list[tuple[int, ...]]:
    """Return the shapes of all tensors of a file of `size` bytes; raises ModelProblem unless they fill it exactly."""
    shapes: list[tuple[int, ...]] = []
    while stream.tell() < size:
        if len(shapes) == _MAX_TENSORS:
            raise ModelProblem(f"it holds more than {_MAX_TENSORS:,} tensors")
        # Two versions, a count of levels for sequences, which weights do not have, and the length of the description.
        begin = stream.read(20)
        length = int.from_bytes(begin[16:], "little")
        if len(begin) < 20 or any(begin[:16]) or length > _MAX_DESCRIPTION:
            raise ModelProblem(f"it is damaged at byte {stream.tell() - len(begin)}")
        width, shape = _description(stream.read(length))
        end = stream.tell() + width * math.prod(shape)
        if end > size:
            raise ModelProblem("it is cut off")
        stream.seek(end)
        shapes.append(shape)
    return shapes


def _description(message: bytes) -> tuple[int, tuple[int, ...]]:
    width, shape = None, list[int]()
    try:
        for number, kind, value in fields(memoryview(message)):
            if number == 1 and isinstance(value, int):
                width = _WIDTHS.get(value)
            elif number == 2:
                shape.extend(whole_numbers(kind, value))
    except ProtobufProblem as problem:
        raise ModelProblem(f"it is damaged: {problem}") from None
    if width is None or not all(0 <= size < 1 << 40 for size in shape) or len(shape) > 16:
        raise ModelProblem(f"it is damaged: a tensor of the shape {shape[:8]} or of an unknown type")
    return width, tuple(shape)
