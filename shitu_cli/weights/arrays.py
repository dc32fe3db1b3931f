"""Build the arrays of a pickle from plain type codes and bytes, never through numpy's own unpickling.

numpy's functions for this trust flags and sizes from the file: a forged file makes them overwrite memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from shitu_cli.inputs.pickles import PickleProblem, StandIn, Unfinished

NUMBERS = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"})
_ORDERS = {"<": "<", ">": ">", "|": "|", "=": "="}
_NDARRAY = object()


class Budget:
    """The bytes that the values of one file may take: a small file could repeat one large value many times."""

    def __init__(self, size: int) -> None:
        self._left = size

    @classmethod
    def of_file(cls, size: int) -> Budget:
        """Return the budget of a file of `size` bytes; weights that share their storage may count several times."""
        return cls(4 * size + (1 << 20))

    def spend(self, size: int) -> None:
        """Subtract `size` bytes; raise PickleProblem if the budget is used up."""
        self._left -= size
        if self._left < 0:
            raise PickleProblem("its values take many times more memory than the file has bytes")


def stand_ins(budget: Budget) -> dict[tuple[str, str], Any]:
    """Return the stand-ins for everything that pickles of arrays, numbers and containers name."""
    names: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): _NDARRAY,
        ("numpy", "dtype"): StandIn("numpy.dtype", _dtype),
        ("_codecs", "encode"): StandIn("_codecs.encode", _encoder(budget)),
        ("collections", "OrderedDict"): StandIn("OrderedDict", _ordered_dict),
    }
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray", "_reconstruct"] = StandIn("_reconstruct", _reconstruct)
        names[f"{core}.multiarray", "scalar"] = StandIn("scalar", _scalar)
        names[f"{core}.numeric", "_frombuffer"] = StandIn("_frombuffer", _from_buffer)
    for builtins in ("builtins", "__builtin__"):
        names[builtins, "tuple"] = StandIn("tuple", _tuple)
        names[builtins, "set"] = StandIn("set", _list)
        names[builtins, "bytes"] = StandIn("bytes", _encoder(budget))
        names[builtins, "bytearray"] = StandIn("bytearray", _encoder(budget))
    return names


def array_of(data: object, dtype: object, shape: object, *, fortran: bool = False) -> np.ndarray:
    """Return an array over the bytes of `data`; raise PickleProblem unless they fit the type and the shape exactly."""
    if isinstance(data, str):  # Python 2's strings are bytes
        data = _latin(data)
    if not isinstance(data, (bytes, bytearray)) or not isinstance(dtype, np.dtype):
        raise PickleProblem("an array in it is damaged: it has no bytes or no type")
    sizes = shape_of(shape)
    if math.prod(sizes) * dtype.itemsize != len(data):
        raise PickleProblem(f"an array in it is damaged: {len(data)} bytes for {dtype} of shape {list(sizes)}")
    return np.frombuffer(data, dtype).reshape(sizes, order="F" if fortran else "C")


def widen(halves: np.ndarray) -> np.ndarray:
    """Return bfloat16 values, held as uint16 of any shape, as float32; exact: they are the upper halves of these."""
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)


def shape_of(shape: object) -> tuple[int, ...]:
    """Return `shape` as a tuple of at most 16 sizes; raise PickleProblem for anything else."""
    sizes = (shape,) if isinstance(shape, int) else shape
    if not isinstance(sizes, tuple) or len(sizes) > 16:
        raise PickleProblem("an array in it is damaged: it has no shape")
    if not all(type(size) is int and 0 <= size < 1 << 48 for size in sizes):
        raise PickleProblem(f"an array in it is damaged: its shape is {str(sizes)[:80]}")
    if math.prod(max(size, 1) for size in sizes) >= 1 << 56:
        raise PickleProblem("an array in it is damaged: its shape is too large")
    return sizes


def _dtype(code: object, *_flags: object) -> Unfinished:
    if code not in NUMBERS:
        raise PickleProblem(f"it holds values of numpy's type {str(code)[:40]!r}, not numbers")

    def finish(state: object) -> np.dtype:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in _ORDERS:
            raise PickleProblem("the type of an array in it is damaged")
        return np.dtype(str(code)).newbyteorder(_ORDERS[str(order)])  # type: ignore[arg-type]

    return Unfinished(finish)


def _reconstruct(*_arguments: object) -> Unfinished:
    def finish(state: object) -> np.ndarray:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise PickleProblem("an array in it is damaged: it has no content")
        shape, dtype, fortran, data = state[-4:]
        return array_of(data, dtype, shape, fortran=fortran is True or fortran == 1)

    return Unfinished(finish)


def _from_buffer(data: object, dtype: object, shape: object, order: object = "C") -> np.ndarray:
    return array_of(data, dtype, shape, fortran=order == "F")


def _scalar(dtype: object, data: object) -> Any:
    return array_of(data, dtype, ())[()]


def _encoder(budget: Budget) -> Callable[..., bytes]:
    def encode(text: object = b"", encoding: object = "latin1") -> bytes:
        budget.spend(len(text) if isinstance(text, (str, bytes)) else 0)
        if isinstance(text, bytes):
            return text
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise PickleProblem("it encodes something other than bytes")
        return _latin(text)

    return encode


def _latin(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise PickleProblem("an array in it is damaged: its bytes are text") from None


def _tuple(values: Iterable[Any] = ()) -> tuple[Any, ...]:
    return tuple(_list(values))


def _list(values: Iterable[Any] = ()) -> list[Any]:
    if not isinstance(values, (tuple, list)):
        raise PickleProblem("it makes a sequence of something that is not one")
    return list(values)


def _ordered_dict(pairs: object = ()) -> dict[Any, Any]:
    if not isinstance(pairs, (tuple, list)) or not all(isinstance(pair, (tuple, list)) for pair in pairs):
        raise PickleProblem("it makes a dict of something that is not one")
    if not all(len(pair) == 2 and isinstance(pair[0], (str, int)) for pair in pairs):
        raise PickleProblem("it makes a dict of something that is not one")
    return {key: value for key, value in pairs}  # noqa: C416  (pairs may be lists)
