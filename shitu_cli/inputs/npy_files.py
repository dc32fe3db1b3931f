"""Read arrays of numbers and text in numpy's format, without evaluating the header as numpy does."""

from __future__ import annotations

import math
import re
from typing import BinaryIO

import numpy as np

from shitu_cli.errors import DataError

# What numpy writes: a Python dict of exactly these three keys.
_HEADER = re.compile(
    rb"\{'descr': '([<|>=]?)([a-zA-Z])(\d{1,9})', 'fortran_order': (True|False), "
    rb"'shape': \(([0-9, ]{0,400})\),? ?\} *\n?"
)
MAX_CHARACTERS = 1 << 20  # of a text: each takes the room of the longest
_NUMBERS = {b"f2", b"f4", b"f8", b"i1", b"i2", b"i4", b"i8", b"u1", b"u2", b"u4", b"u8", b"b1"}


def read_npy_header(stream: BinaryIO, name: str, *, text: bool = False) -> tuple[np.dtype, tuple[int, ...], bool]:
    """Return type, shape and whether in Fortran order of an array that starts at the position of `stream`.

    Only numbers and truth values are read, with `text` also strings. Afterwards the stream is at the first value.
    Raises DataError with `name` for anything else: objects, structures, damaged or unusually long headers.
    """
    start = stream.read(8)
    if start[:6] != b"\x93NUMPY" or len(start) < 8 or start[6] not in (1, 2, 3):
        raise DataError(f"{name} is not a .npy file of numpy")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(stream.read(width), "little")
    match = _HEADER.fullmatch(stream.read(length)) if length <= 4096 else None
    if match is None:
        raise DataError(f"{name} is damaged, or holds values other than numbers")
    order, kind, size, fortran, sizes = match.groups()
    if kind + size not in _NUMBERS and not (text and kind == b"U" and 0 < int(size) <= MAX_CHARACTERS):
        raise DataError(f"{name} holds values of numpy's type {(kind + size).decode()!r}, not numbers")
    try:
        shape = tuple(int(part) for part in sizes.replace(b" ", b"").split(b",") if part)
    except ValueError:
        raise DataError(f"{name} is damaged: its shape has too many digits") from None
    dtype = np.dtype((order + kind + size).decode())
    if len(shape) > 16 or math.prod(max(size, 1) for size in shape) * dtype.itemsize >= 1 << 62:
        raise DataError(f"{name} is damaged: its shape is {'x'.join(map(str, shape))[:80]}")
    return dtype, shape, fortran == b"True"


def read_npy(stream: BinaryIO, size: int, name: str, *, text: bool = False) -> np.ndarray:
    """Read one array from a stream that holds `size` bytes of .npy; limits and errors are those of `read_npy_header`.

    Raises DataError also when the bytes are fewer or more than the shape says, before any memory is taken for it.
    """
    dtype, shape, fortran = read_npy_header(stream, name, text=text)
    expected = math.prod(shape) * dtype.itemsize
    present = size - stream.tell()
    if present != expected:
        raise DataError(f"{name} is damaged: {present} bytes of values, its shape needs {expected}")
    data = stream.read(expected)
    if len(data) != expected:
        raise DataError(f"{name} is cut off")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
