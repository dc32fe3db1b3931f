"""Building a named component from validated arguments, with every misfit of its signature told at once."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from shitu_cli.errors import ConfigError

T = TypeVar("T")


def did_you_mean(word: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(word, choices, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def construct(where: str, table: Mapping[str, Callable[..., T]], name: str, args: Mapping[str, Any]) -> T:
    """`table[name](**args)`; raises ConfigError naming `where` (a config key) for an unknown name or argument."""
    if name not in table:
        raise ConfigError(
            f"{where}.name: {name} is not one of the {len(table)} known{did_you_mean(name, list(table))}",
            hint="known: " + ", ".join(sorted(table)),
        )
    maker = table[name]
    parameters = inspect.signature(maker).parameters
    problems = [
        f"{where}.{key}: {name} has no such argument{did_you_mean(key, list(parameters))}"
        for key in args
        if key not in parameters
    ]
    problems += [
        f"{where}.{key}: missing, {name} needs it"
        for key, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty and key not in args
    ]
    if problems:
        raise ConfigError(problems[0], details=problems[1:], hint=f"{name} takes: " + ", ".join(parameters))
    return maker(**args)
