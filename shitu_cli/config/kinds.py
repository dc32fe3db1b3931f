"""The kinds of values of a config, read from annotations: types, ranges, choices, lists and blocks.

`Annotated[float, Range(0, 1), "what it means"]` is a number from 0 to 1; `int | tuple[int, ...]` one or a list;
`Literal["O1", "O2"]` a choice; a dataclass a block of keys; a part's base class a block with a `name`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def holds(self, value: float) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        return above and (value < self.high if self.high_open else value <= self.high)

    def __str__(self) -> str:
        low = "" if self.low == -math.inf else f"above {self.low:g}" if self.low_open else f"at least {self.low:g}"
        high = "" if self.high == math.inf else f"below {self.high:g}" if self.high_open else f"at most {self.high:g}"
        if low and high and not (self.low_open or self.high_open):
            return f" from {self.low:g} to {self.high:g}"
        bounds = " and ".join(part for part in (low, high) if part)
        return f" {'' if self.low_open else 'of '}{bounds}" if bounds else ""


@dataclass(frozen=True)
class Length:
    """The number of items of a list; `ascending`: the smaller first."""

    items: int
    ascending: bool = False


PAIR = Length(2)
LOW_HIGH = Length(2, ascending=True)
FRACTION = object()  # marks a number that may be written as text: "1.0/255.0"

Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Rate = Annotated[float, Range(0)]  # not negative
Positive = Annotated[float, Range(0, low_open=True)]
Share = Annotated[float, Range(0, 1)]
Portion = Annotated[float, Range(0, 1, low_open=True)]  # a share that is not nothing
BelowOne = Annotated[float, Range(0, 1, high_open=True)]


class Misfit(Exception):
    """A value does not have the form of a kind; the kind's text says what is expected."""


class ValueKind:
    """One form that a value may take."""

    def fits(self, value: Any) -> bool:
        """Return whether `value` has this form at all (a list, a number, ...), valid or not."""
        raise NotImplementedError

    def convert(self, value: Any) -> Any:
        """Return `value` as the rest of the program receives it; raise Misfit if it is wrong."""
        return value


@dataclass(frozen=True)
class Number(ValueKind):
    whole: bool
    range: Range = Range()
    fraction: bool = False

    def fits(self, value: Any) -> bool:
        plain = isinstance(value, (int, float)) and not isinstance(value, bool)
        return plain or (self.fraction and isinstance(value, str))

    def convert(self, value: Any) -> Any:
        try:
            if isinstance(value, str):
                above, slash, below = value.partition("/")
                value = float(above) / (float(below) if slash else 1.0)
            number = int(value) if self.whole else float(value)
        except (ValueError, ArithmeticError):
            raise Misfit from None
        if not math.isfinite(number) or number != value or abs(number) >= 1 << 63 or not self.range.holds(number):
            raise Misfit
        return number

    def __str__(self) -> str:
        example = ", or a fraction such as 1.0/255.0" if self.fraction else ""
        return f"a {'whole number' if self.whole else 'number'}{self.range}{example}"


@dataclass(frozen=True)
class Text(ValueKind):
    def fits(self, value: Any) -> bool:
        return isinstance(value, str)

    def __str__(self) -> str:
        return "text"


@dataclass(frozen=True)
class Choice(ValueKind):
    """One of some values; true and false may be written as text, and words in capitals."""

    values: tuple[Any, ...]

    def fits(self, value: Any) -> bool:
        return isinstance(value, (str, bool, int)) or (value is None and None in self.values)

    def convert(self, value: Any) -> Any:
        if isinstance(value, str) and value not in self.values:
            words = {word.lower(): word for word in self.values if isinstance(word, str)}
            value = {"true": True, "false": False, **words}.get(value.lower(), value)
        same = [item for item in self.values if item == value and isinstance(item, bool) == isinstance(value, bool)]
        if not same:
            raise Misfit
        return same[0]

    def __str__(self) -> str:
        words = [shown(value) for value in self.values if value is not None or len(self.values) == 1]
        if set(self.values) == {True, False}:
            return "true or false"
        return words[0] if len(words) == 1 else f"one of {', '.join(words)}"


FLAG = Choice((True, False))


@dataclass(frozen=True)
class Items(ValueKind):
    """A list of `length` items, or of any number."""

    item: tuple[ValueKind, ...]
    length: int | None = None
    ascending: bool = False

    def fits(self, value: Any) -> bool:
        return isinstance(value, (list, tuple))

    def convert(self, value: Any) -> Any:
        items = tuple(convert(self.item, item) for item in value)
        if (self.length is not None and len(items) != self.length) or (self.ascending and items[0] > items[-1]):
            raise Misfit
        return items

    def __str__(self) -> str:
        plural = re.sub(r"\b(number|text)\b", r"\1s", describe(self.item).removeprefix("a "), count=1)
        plural = plural.replace("two ", "pairs of ", 1).replace("list of", "lists of", 1)
        counted = {None: "a list of", 2: "two"}.get(self.length, f"a list of {self.length}")
        return f"{counted} {plural}{', the smaller first' if self.ascending else ''}"


@dataclass(frozen=True)
class Block(ValueKind):
    """A block of keys for a dataclass; the reader checks its keys."""

    cls: type

    def fits(self, value: Any) -> bool:
        return isinstance(value, (dict, self.cls))

    def __str__(self) -> str:
        return "a block of keys"


def convert(kinds: tuple[ValueKind, ...], value: Any) -> Any:
    """Return `value` as the first of `kinds` that takes it; raise Misfit if none does."""
    if value is None and not kinds:
        return None
    for kind in kinds:
        if kind.fits(value):
            try:
                return kind.convert(value)
            except Misfit:
                continue
    raise Misfit


def describe(kinds: tuple[ValueKind, ...]) -> str:
    """Return a phrase for what is expected: `a whole number of at least 1, or a list of such`."""
    some = [kind for kind in kinds if not (isinstance(kind, Choice) and kind.values == (None,))]
    if len(some) == 2 and isinstance(some[1], Items) and some[1].item == (some[0],) and some[1].length is None:
        return f"{some[0]}, or a list of such"
    return " or ".join(str(kind) for kind in some) or "null"


def shown(value: Any) -> str:
    """Return a choice or a default as YAML writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(list(value)) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True)
class Field:
    """A key of a block: its kinds, its meaning, and its default (MISSING if the key is required)."""

    name: str
    kinds: tuple[ValueKind, ...]
    meaning: str
    default: Any

    @property
    def needed(self) -> bool:
        return self.default is dataclasses.MISSING

    @property
    def optional(self) -> bool:
        """Whether null is a valid value."""
        return any(isinstance(kind, Choice) and None in kind.values for kind in self.kinds)


NO_KEY = {"no key": True}  # metadata of a field that only the constructor takes, not the config


class Keys:
    """A block of the config: a dataclass whose fields are its keys.

    `ignored` keys of PaddleClas are accepted without effect, `not_supported` ones only with their defaults there (None:
    off), and else refused, like those that config/unsupported.py explains; `renamed` maps other names of keys to
    fields.
    """

    ignored: ClassVar[tuple[str, ...]] = ()
    not_supported: ClassVar[Mapping[str, Any]] = types.MappingProxyType({})
    renamed: ClassVar[dict[str, str]] = {}

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, what is wrong) for values that are valid by themselves but not together."""
        yield from ()


def fields_of(cls: Any) -> dict[str, Field]:
    """Return the keys of a block by name, in order."""
    return _fields_of(cls)  # mypy does not take a class for hashable, which a cached function asks for


@functools.cache
def _fields_of(cls: Any) -> dict[str, Field]:
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {}
    for field in dataclasses.fields(cls):
        if field.init and not field.metadata.get("no key"):
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            meaning = next(_meanings(hints[field.name]), "")
            fields[field.name] = Field(field.name, tuple(_kinds(hints[field.name])), meaning, default)
    return fields


def _meanings(hint: Any) -> Iterator[str]:
    """Yield the texts of an annotation, the outermost first."""
    inner, *extras = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
    yield from (extra for extra in extras if isinstance(extra, str))
    if isinstance(inner, types.UnionType) or typing.get_origin(inner) is typing.Union:
        for member in typing.get_args(inner):
            yield from _meanings(member)


def _kinds(hint: Any, extras: tuple[Any, ...] = ()) -> Iterator[ValueKind]:
    origin = typing.get_origin(hint)
    if origin is Annotated:
        inner, *more = typing.get_args(hint)
        yield from _kinds(inner, (*more, *extras))
    elif origin in (typing.Union, types.UnionType):
        for member in typing.get_args(hint):
            yield from _kinds(member, extras)
    elif origin is Literal:
        yield Choice(typing.get_args(hint))
    elif origin is tuple:
        length = next((extra for extra in extras if isinstance(extra, Length)), None)
        item = tuple(_kinds(typing.get_args(hint)[0], extras))
        yield Items(item, length.items, length.ascending) if length else Items(item)
    elif hint in (int, float):
        bounds = next((extra for extra in extras if isinstance(extra, Range)), Range())
        yield Number(hint is int, bounds, FRACTION in extras)
    elif hint is bool:
        yield FLAG
    elif hint is type(None):
        yield Choice((None,))
    elif hint is str:
        yield Text()
    else:
        yield Block(hint)
