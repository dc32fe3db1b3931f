"""Read JSON that somebody else wrote: bounded in size, depth and digits, with errors that name the file and line."""

from __future__ import annotations

import json
import math
import os
from typing import Any

from shitu_cli.errors import DataError, Message, ShituError
from shitu_cli.inputs.files import MIB, StrPath, decode_text, read_bytes

MAX_DEPTH = 64
_MAX_DIGITS = 40


def read_json(
    path: StrPath,
    *,
    limit: int = 16 * MIB,
    error: type[ShituError] = DataError,
    hint: Message | None = None,
    allow_nan: bool = False,
) -> Any:
    """Read one JSON value from a UTF-8 file of at most `limit` bytes.

    Raises `error` with file and line for invalid JSON, nesting deeper than 64 levels, whole numbers of more than 40
    digits and, unless `allow_nan`, numbers that are not finite; other errors are those of `open_input`.
    """
    return parse_json(
        read_bytes(path, limit=limit, error=error, hint=hint), path, error=error, hint=hint, allow_nan=allow_nan
    )


def parse_json(
    data: bytes | str,
    source: StrPath,
    *,
    error: type[ShituError] = DataError,
    hint: Message | None = None,
    allow_nan: bool = False,
) -> Any:
    """Parse JSON as `read_json` does; `source` is the name to give in errors."""
    name = os.fspath(source)
    text = decode_text(data, source, error=error, hint=hint) if isinstance(data, bytes) else data
    numbers: dict[str, Any] = {} if allow_nan else {"parse_float": _finite, "parse_constant": _finite}
    try:
        value = json.loads(text, parse_int=_whole, **numbers)
    except json.JSONDecodeError as problem:
        raise error(f"{name}:{problem.lineno}: not valid JSON: {problem.msg}", hint=hint) from None
    except ValueError as problem:
        raise error(f"{name}: not valid JSON: {problem}", hint=hint) from None
    except RecursionError:
        raise _too_deep(name, error, hint) from None
    if _depth_exceeds(value, MAX_DEPTH):
        raise _too_deep(name, error, hint)
    return value


def memory_of_json(data: bytes) -> int:
    """Return about how many bytes of memory the values of a JSON text take; the text itself may take another two each.

    Lists and dicts take a hundred bytes and more, other values some 30. In texts of numbers that is ten times as much
    as in the file.
    """
    import numpy as np

    signs = np.frombuffer(data, np.uint8)
    lists = commas = 0
    for start in range(0, len(signs), MIB):
        block = signs[start : start + MIB]
        lists += int(np.count_nonzero(block == ord("[")) + np.count_nonzero(block == ord("{")))
        commas += int(np.count_nonzero(block == ord(",")))
    return 2 * len(data) + 100 * lists + 30 * commas


def read_json_object(
    path: StrPath,
    *,
    limit: int = 16 * MIB,
    error: type[ShituError] = DataError,
    hint: Message | None = None,
    allow_nan: bool = False,
) -> dict[str, Any]:
    """Read a JSON object as `read_json` does; raises `error` for any other value."""
    value = read_json(path, limit=limit, error=error, hint=hint, allow_nan=allow_nan)
    if not isinstance(value, dict):
        raise error(f"{os.fspath(path)}: expected a JSON object, got {type(value).__name__}", hint=hint)
    return value


def read_note(path: StrPath) -> dict[str, Any]:
    """Read a JSON object that only adds to what is known otherwise; {} if it is missing or damaged."""
    try:
        return read_json_object(path, allow_nan=True)
    except ShituError:
        return {}


def _whole(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is not a finite number")
    return value


def _depth_exceeds(value: Any, limit: int) -> bool:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(limit):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) in (dict, list)
        ]
        if not level:
            return False
    return True


def _too_deep(name: str, error: type[ShituError], hint: Message | None) -> ShituError:
    return error(f"{name}: nested more than {MAX_DEPTH} levels deep", hint=hint)
