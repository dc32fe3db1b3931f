"""Skip Typer's conversion of values that have the right type already.

Typer converts every value with pydantic, even that of an option that is not given, and importing pydantic takes as long
as a search for an image. It has no setting against that (even its `parser` goes through pydantic), so the parameters
accept here what needs no conversion. Typer converts the rest, and reports whatever is wrong.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def take_plain_values(parameters: list[Any]) -> list[Any]:
    """Let the parameters of a command take plain values as they are; return them."""
    for parameter in parameters:
        # Versions of Typer before 0.29 describe types in another way, and load nothing for them.
        kind = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
        if kind is not None and "process_value" not in vars(parameter):
            parameter.process_value = functools.partial(_process, parameter, kind, parameter.process_value)
    return parameters


def _process(parameter: Any, kind: Any, convert: Callable[..., Any], context: Any, value: Any) -> Any:
    """Return the value of a parameter; `convert` is Typer's own way, `kind` the parameter's annotation."""
    if not _is_plain(parameter, kind, value):
        return convert(context, value)
    if parameter.multiple or parameter.nargs == -1:
        value = () if value is None else list(value)
    elif kind is Path and value is not None:
        value = Path(value)
    return value if parameter.callback is None else parameter.callback(context, parameter, value)


def _is_plain(parameter: Any, kind: Any, value: Any) -> bool:
    """Return whether a value is right as it is."""
    if value is None:
        return not parameter.required
    if kind is str:
        return isinstance(value, str)
    if kind is Path:
        return isinstance(value, str) and (os.access(value, os.R_OK) or not os.path.lexists(value))
    if kind == list[str]:
        return bool(value) and all(isinstance(item, str) for item in value)
    return kind in (int, float) and value is parameter.default
