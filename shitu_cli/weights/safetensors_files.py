"""Read `.safetensors` files: a JSON header with types, shapes and offsets, followed by the bytes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from shitu_cli.errors import DataError
from shitu_cli.inputs import MIB, parse_json
from shitu_cli.weights.arrays import widen
from shitu_cli.weights.opening import damaged, open_weights

_MAX_HEADER = 100 * MIB  # the limit of the format's own library
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2"}
_TYPES |= {"I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"}


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file by name; bfloat16 becomes float32.

    Raises DataError unless the header describes the bytes exactly: supported types, sizes that fit the shapes, and
    parts that follow each other without gap or overlap up to the end of the file.
    """
    path = Path(path)
    with open_weights(path) as (stream, size):
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(_MAX_HEADER, size - 8):
            raise damaged(path, "its header is longer than the file")
        header = parse_json(stream.read(length), path, hint="is the file complete?")
        if not isinstance(header, dict):
            raise damaged(path, "its header is not a table")
        header.pop("__metadata__", None)
        places = sorted(((*_place(path, name, entry), name) for name, entry in header.items()), key=lambda row: row[:2])
        arrays: dict[str, np.ndarray] = {}
        at = 0
        for begin, end, code, shape, name in places:
            if begin != at:
                raise damaged(path, f"the bytes of {name[:80]!r} overlap others or leave a gap")
            arrays[name] = _read(stream, path, code, shape, end - begin)
            at = end
        if 8 + length + at != size:
            raise damaged(path, f"it has {size} bytes, its header describes {8 + length + at}")
    return {name: arrays[name] for name in header}


def _place(path: Path, name: str, entry: Any) -> tuple[int, int, str, tuple[int, ...]]:
    """Return begin, end, type and shape of an entry whose size fits them."""
    values = entry if isinstance(entry, dict) else {}
    offsets, shape, code = _sizes(values.get("data_offsets")), _sizes(values.get("shape")), values.get("dtype")
    if offsets is None or shape is None or len(offsets) != 2 or len(shape) > 16:
        raise damaged(path, f"its header is damaged at {name[:80]!r}")
    if not isinstance(code, str) or code not in _TYPES:
        raise DataError(f"{path}: {name[:80]!r} has the type {str(code)[:20]!r}, which is not supported")
    begin, end = offsets
    if end - begin != math.prod(shape) * np.dtype(_TYPES[code]).itemsize:
        raise damaged(path, f"{name[:80]!r} has {end - begin} bytes for {code} of shape {shape}")
    return begin, end, code, tuple(shape)


def _sizes(value: Any) -> list[int] | None:
    if not isinstance(value, list) or not all(type(size) is int and 0 <= size < 1 << 48 for size in value):
        return None
    return value


def _read(stream: BinaryIO, path: Path, code: str, shape: tuple[int, ...], size: int) -> np.ndarray:
    data = stream.read(size)
    if len(data) != size:
        raise damaged(path, "it is cut off")
    array = np.frombuffer(data, _TYPES[code]).reshape(shape)
    return widen(array) if code == "BF16" else array
