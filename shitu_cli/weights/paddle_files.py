"""Read what `paddle.save` and PaddleClas write: `.pdparams`, `.pdopt` and the like, which are pickles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from shitu_cli.errors import DataError
from shitu_cli.inputs.pickles import PickleProblem, read_pickle_stream
from shitu_cli.weights.arrays import Budget, shape_of, stand_ins
from shitu_cli.weights.opening import MAX_OPERATIONS, open_weights

T = TypeVar("T")
_NAMES = "StructuredToParameterName@@"  # Paddle's own names of parameters, of no use here
_SLICED = "UnpackBigParamInfor@@"
_DEPTH = 4


def read_paddle(path: str | Path) -> dict[Any, Any]:
    """Return the dict in a file of `paddle.save`: arrays, numbers, text and containers of them; nothing is run.

    Tensors that Paddle cut into slices are joined. The arrays are read-only. Raises DataError for anything else.
    """
    plain = _read(path, lambda values: _plain(values, 0))
    if not isinstance(plain, dict):
        raise DataError(f"{path} holds a {type(plain).__name__}, not a table of weights")
    return plain


def read_paddle_tables(path: str | Path) -> list[dict[Any, Any]]:
    """Return all dicts of a file that holds one or a list of them, as PaddleClas writes for several optimisers."""
    tables = _read(
        path, lambda values: [_plain(value, 0) for value in (values if isinstance(values, list) else [values])]
    )
    if not all(isinstance(table, dict) for table in tables):
        raise DataError(f"{path} does not hold tables of arrays")
    return tables


def read_parameter_names(path: str | Path) -> dict[str, str]:
    """Return Paddle's own name (`conv2d_0.w_0`) by the name in the network, of parameters stored with it."""
    values = _read(path, lambda values: values)
    if not isinstance(values, dict):
        return {}
    table = values.get(_NAMES)
    names = {str(key): str(name) for key, name in table.items()} if isinstance(table, dict) else {}
    return names | {key: value[0] for key, value in values.items() if _is_named(value)}


def _read(path: str | Path, use: Callable[[Any], T]) -> T:
    """Return what `use` makes of the content of a file; errors in either become a DataError that names the file."""
    with open_weights(Path(path)) as (stream, size):
        return use(read_pickle_stream(stream, stand_ins(Budget.of_file(size)), max_operations=MAX_OPERATIONS))


def _is_named(value: Any) -> bool:
    """Return whether a value is a tensor with Paddle's own name."""
    return (
        isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], np.ndarray)
    )


def _plain(value: Any, depth: int) -> Any:
    """Return plain values for what Paddle wraps: tensors as pairs of name and array, slices, its table of names."""
    if _is_named(value):
        return value[1]
    if not isinstance(value, dict) or depth == _DEPTH:
        return value
    sliced = value.get(_SLICED)
    rest = {key: _plain(item, depth + 1) for key, item in value.items() if key not in (_NAMES, _SLICED)}
    if isinstance(sliced, dict):
        for name, parts in sliced.items():
            rest[name] = _joined(rest, parts)
    return rest


def _joined(values: dict[Any, Any], parts: Any) -> np.ndarray:
    if not isinstance(parts, dict) or not isinstance(parts.get("slices"), (list, tuple)):
        raise PickleProblem("its table of sliced weights is damaged")
    pieces = [values.pop(name, None) for name in parts["slices"] if isinstance(name, str)]
    arrays = [piece.reshape(-1) for piece in pieces if isinstance(piece, np.ndarray)]
    if not arrays or len(arrays) != len(parts["slices"]):
        raise PickleProblem("a slice of one of its weights is missing")
    shape = parts.get("OriginShape", ())
    sizes = shape_of(tuple(shape) if isinstance(shape, (list, tuple)) else shape)
    try:
        return np.concatenate(arrays).reshape(sizes)
    except ValueError:
        raise PickleProblem("the slices of one of its weights do not fit together") from None
