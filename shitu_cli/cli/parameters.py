"""Arguments and options of commands, from the signatures of their functions.

A parameter is written as `name: Annotated[type, option(group, help)] = default` or `Annotated[type, argument(help)]`;
its type may be str, int, float, bool or Path, a list of one of them, or None besides.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import click

GENERAL, ARGUMENTS = "General", "Arguments"  # headings of the help
ENDLESS = 65_536  # upper bounds from here on only keep out mistakes; help does not show them
_WRITTEN = {int: "N", float: "X", Path: "PATH", str: "TEXT"}  # as help writes the values of options


class OptionText(NamedTuple):
    """What a signature says of an option; `names` are those it has instead of its parameter's."""

    heading: str
    help: str
    names: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    metavar: str | None = None


class ArgumentText(NamedTuple):
    """What a signature says of an argument."""

    help: str


class Number(click.ParamType):
    """A whole or real number within bounds; NaN is never within them."""

    def __init__(self, kind: type[int] | type[float], low: float | None, high: float | None) -> None:
        self.kind, self.name = kind, kind.__name__
        self.low, self.high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | float:
        """Return the number that a text spells; refuse anything else and what is out of bounds."""
        try:
            number = self.kind(value)
        except (ValueError, OverflowError):
            self.fail(f"expected a {'whole ' if self.kind is int else ''}number, got {value!r}", param, ctx)
        if math.isnan(number) or not self._low <= number <= self._high:
            self.fail(f"expected {self.bounds or 'a number'}, got {value}", param, ctx)
        return number

    @property
    def bounds(self) -> str:
        """The bounds in words, "" for none."""
        if self.low is None and self.high is None:
            return ""
        if self._high >= ENDLESS:
            return f"at least {self.low:g}"
        return f"{self.low:g} to {self.high:g}" if self.low is not None else f"at most {self.high:g}"

    @property
    def _low(self) -> float:
        return -math.inf if self.low is None else self.low

    @property
    def _high(self) -> float:
        return math.inf if self.high is None else self.high


class Option(click.Option):
    """An option that knows the heading under which help shows it."""

    def __init__(self, *args: Any, heading: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.heading = heading

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """Return how the option is written, and what it does."""
        written = [", ".join(names) for names in (sorted(self.opts, key=len), self.secondary_opts) if names]
        value = "" if self.is_flag else f" {self.metavar}"
        return " / ".join(written) + value, _explained(self)


class Argument(click.Argument):
    """An argument with a help of its own."""

    heading = ARGUMENTS

    def __init__(self, *args: Any, help: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.help = help

    def make_metavar(self, ctx: click.Context) -> str:
        """Return how the command line's summary writes it."""
        name = f"{self.human_readable_name}{'...' if self.nargs < 0 else ''}"
        return name if self.required else f"[{name}]"

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """Return how the argument is written, and what it is."""
        return f"{self.name}{'...' if self.nargs < 0 else ''}", _explained(self)


def parameters_of(function: Callable[..., Any]) -> Iterator[click.Parameter]:
    """Yield the arguments and options that a command's function takes besides its context."""
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "context":
            continue
        hint, text = get_args(hints[name])[:2]
        required = parameter.default is inspect.Parameter.empty
        yield _parameter(name, hint, text, None if required else parameter.default, required=required)


def _parameter(
    name: str, hint: Any, text: OptionText | ArgumentText, default: Any, *, required: bool
) -> click.Parameter:
    kind, is_list = _kind_of(hint)
    settings: dict[str, Any] = {"required": required}
    if is_list:  # click gives an empty tuple where nothing is given
        settings["callback"] = lambda context, parameter, values: list(values) or default
    elif not required:
        settings["default"] = default
    if isinstance(text, ArgumentText):
        return Argument([name], type=_type_of(kind), nargs=-1 if is_list else 1, help=text.help, **settings)
    spelt = "--" + name.replace("_", "-")
    settings |= {"heading": text.heading, "help": text.help}
    if kind is bool:
        names = text.names or (f"{spelt}/--no-{spelt[2:]}",)
        return Option([name, *names], is_flag=True, **settings)
    settings |= {"type": _type_of(kind, text.low, text.high), "metavar": text.metavar or _WRITTEN[kind]}
    return Option([name, *(text.names or (spelt,))], multiple=is_list, **settings)


def _kind_of(hint: Any) -> tuple[type, bool]:
    """Return the type of one value, and whether there may be several: `list[str] | None` is (str, True)."""
    if NoneType in get_args(hint):
        hint = next(member for member in get_args(hint) if member is not NoneType)
    return (get_args(hint)[0], True) if get_origin(hint) is list else (hint, False)


def _type_of(kind: type, low: float | None = None, high: float | None = None) -> Any:
    return Number(kind, low, high) if kind in (int, float) else kind


def _explained(parameter: Option | Argument) -> str:
    """Return the help of a parameter with its default, its bounds, and whether it is required."""
    help, notes = parameter.help or "", []
    default = parameter.default
    if isinstance(default, (str, int, float, Path)) and default is not False and default != "":
        notes.append(f"default: {parameter.opts[-1].lstrip('-') if default is True else default}")
    if isinstance(parameter.type, Number) and parameter.type.bounds:
        notes.append(parameter.type.bounds)
    if parameter.required:
        notes.append("required")
    return f"{help}  [{'; '.join(notes)}]" if notes else help
