"""Plain values of a config checked one by one: what was got, what is expected, and where it stands."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from shitu_cli.config import components
from shitu_cli.config.ranges import Range, range_of
from shitu_cli.config.schema import Component
from shitu_cli.config.source import placed

CHOICES: dict[str, tuple[str, ...]] = {
    "Global.eval_mode": ("retrieval",),
    "Global.retrieval_feature_from": ("features", "backbone"),
    "Global.feature_binarize": ("round", "sign"),
    "Arch.infer_output_key": ("features",),
    "Arch.head_feature_from": ("neck", "backbone"),
    "AMP.level": ("O1", "O2"),
    "AMP.dtype": ("float16", "bfloat16"),
}


class Reader:
    """Walks plain values, collects problems, and returns typed blocks (or None where they are beyond use)."""

    def __init__(self, origins: Mapping[str, str], file: str) -> None:
        self.origins, self.file = origins, file
        self.problems: list[str] = []

    def problem(self, key: str, text: str) -> None:
        where, at = key, self.origins.get(key)
        if at is None or not at.startswith("-"):  # a part of it may have been given on the command line
            given = (o for k, o in self.origins.items() if k.startswith(f"{key}.") and o.startswith("-"))
            at = next(given, at)
        while at is None and "." in where:
            where = where.rpartition(".")[0]
            at = self.origins.get(where)
        self.problems.append(placed(at or self.file, key, text))

    def mapping(self, key: str, value: Any, *, missing_ok: bool = False) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        if value is None and missing_ok:
            return {}
        self.problem(key, "missing" if value is None else f"got {show(value)}, expected a block of keys")
        return {}

    def unknown(self, key: str, names: Sequence[str], known: Collection[str], elsewhere: Sequence[str] = ()) -> None:
        """Report names that are not known; those of PaddleClas that have no counterpart are called so."""
        for name in names:
            if name in known:
                continue
            dotted = f"{key}.{name}" if key else name
            if name in elsewhere:
                self.problem(dotted, "PaddleClas has this, it is not supported here: take it out")
            else:
                close = difflib.get_close_matches(name, list(known), n=1)
                self.problem(dotted, "unknown key" + (f" (did you mean {close[0]}?)" if close else ""))

    def scalar(self, key: str, value: Any, kind: Any) -> Any:
        """`value` checked against a dataclass field's type; None where it does not fit."""
        allowed = _members(kind)
        if value is None and type(None) in allowed:
            return None
        if allowed == [bool] and isinstance(value, str) and value.lower() in ("true", "false"):
            value = value.lower() == "true"
        if isinstance(value, bool) and bool not in allowed:
            if str in allowed and value is False and type(None) in allowed:
                return None  # `pretrained_model: False` is how some files say none
            self.problem(key, f"got {show(value)}, expected {_expected(allowed)}")
            return None
        if float in allowed and isinstance(value, (int, float)) and not isinstance(value, bool):
            value = float(value)
        elif tuple in allowed and isinstance(value, list):
            return tuple(value)
        elif not isinstance(value, tuple(allowed)):
            self.problem(key, f"got {show(value)}, expected {_expected(allowed)}")
            return None
        if key in CHOICES and value not in CHOICES[key]:
            close = difflib.get_close_matches(str(value), CHOICES[key], n=1)
            guess = f" (did you mean {close[0]}?)" if close else ""
            self.problem(key, f"got {show(value)}, expected one of {', '.join(CHOICES[key])}{guess}")
        return value

    def within(self, key: str, value: Any, bounds: Range | None) -> None:
        """Report a value outside its range; None stands for the default."""
        if bounds is not None and value is not None and not bounds.holds(value):
            self.problem(key, f"got {show(value)}, expected {bounds}")

    def fields(self, key: str, values: dict[str, Any], cls: type, skip: Sequence[str] = ()) -> dict[str, Any]:
        """Arguments for the dataclass `cls` from the keys that are its fields."""
        hints = typing.get_type_hints(cls)
        found = {}
        for field in dataclasses.fields(cls):
            if field.name in values and field.name not in skip:
                value = self.scalar(f"{key}.{field.name}", values[field.name], hints[field.name])
                self.within(f"{key}.{field.name}", value, range_of(cls.__name__, field.name))
                if value is not None or type(None) in _members(hints[field.name]):
                    found[field.name] = value
        return found

    def component(self, key: str, kind: str, name: Any, args: dict[str, Any]) -> Component | None:
        """A component of `kind` (see components.SPECS) with its argument names checked."""
        table = components.SPECS[kind]
        if not isinstance(name, str) or name not in table:
            elsewhere = components.NOT_SUPPORTED.get(kind, ())
            if name is None:
                self.problem(key, "name: missing")
            elif name in elsewhere:
                self.problem(key, f"{name}: PaddleClas has this {kind}, it is not supported here")
            else:
                close = difflib.get_close_matches(str(name), list(table), n=1)
                guess = f" (did you mean {close[0]}?)" if close else ""
                plural = f"{kind}es" if kind.endswith("s") else f"{kind}s"
                self.problem(key, f"got {show(name)}, expected one of the {len(table)} {plural} known{guess}")
            return None
        known = table[name]
        self.unknown(key, list(args), known)
        for argument, required in known.items():
            if required and argument not in args:
                self.problem(key, f"{name} needs {argument}")
        for argument, value in args.items():
            if argument in known:
                self.within(f"{key}.{argument}", value, range_of(kind, argument, name))
        return Component(name, dict(args))

    def named(self, key: str, kind: str, value: Any) -> Component | None:
        """A `{name: X, argument: ...}` block."""
        block = dict(self.mapping(key, value))
        if not block:
            return None
        return self.component(key, kind, block.pop("name", None), block)

    def listed(self, key: str, kind: str, value: Any) -> list[Component]:
        """A list of `- Name: {arguments}` entries."""
        if not isinstance(value, list):
            self.problem(key, f"got {show(value)}, expected a list of - Name: {{arguments}}")
            return []
        found = []
        for number, item in enumerate(value):
            if isinstance(item, str):
                item = {item: None}
            if not isinstance(item, dict) or len(item) != 1:
                self.problem(f"{key}.{number}", f"got {show(item)}, expected one entry - Name: {{arguments}}")
                continue
            ((name, args),) = item.items()
            made = self.component(
                f"{key}.{number}.{name}", kind, name, self.mapping(f"{key}.{number}.{name}", args, missing_ok=True)
            )
            if made is not None:
                found.append(made)
        return found


def _members(kind: Any) -> list[type]:
    """The plain types of an annotation such as `int | None` or `tuple[str, ...]`."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return [member for argument in typing.get_args(kind) for member in _members(argument)]
    origin = typing.get_origin(kind)
    if origin is tuple:
        return [tuple, str] if str in typing.get_args(kind) else [tuple]
    return [origin or kind]


def _expected(allowed: Sequence[type]) -> str:
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", tuple: "a list"}
    return " or ".join(words[kind] for kind in allowed if kind in words) or "null"


def show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def field_names(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]
