"""Check the plain values of a config one by one: report the value, what is expected, and its line."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from shitu_cli.config.kinds import Block, Field, Keys, Misfit, convert, describe, fields_of
from shitu_cli.config.parts import KINDS, Part, PartKind, kind_of
from shitu_cli.config.source import placed
from shitu_cli.config.unsupported import unsupported_class, unsupported_key, unsupported_value
from shitu_cli.errors import ConfigError

T = TypeVar("T", bound=Keys)
FEW = 8  # words, which a message lists
MOST_ENTRIES = 100  # of a list of transforms, losses, ...


def guess(word: object, words: Collection[str]) -> str:
    """Return a suggestion to append to a word that is not among `words`: ` (did you mean X?)`, or ""."""
    close = difflib.get_close_matches(str(word), list(words), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def guess_or_all(word: object, words: Collection[str]) -> str:
    """Return what to append to a word that is not among `words`: the one it may mean, or all where there are few."""
    few = f" (known here: {', '.join(words)})" if 0 < len(words) <= FEW else ""
    return guess(word, words) or few


def show(value: Any) -> str:
    """Return a value as a message quotes it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _is_off(value: Any) -> bool:
    """Return whether a value of PaddleClas asks for nothing: false, null, empty, or blocks of such values."""
    return all(map(_is_off, value.values())) if isinstance(value, dict) else not value


def _keys_of(cls: type[Keys]) -> set[str]:
    """Return all keys that a block may have, also those of PaddleClas."""
    return {*fields_of(cls), *cls.ignored, *cls.not_supported, *cls.renamed}


class Reader:
    """Walks through plain values, collects problems, and returns typed blocks (None for those with problems)."""

    def __init__(self, origins: Mapping[str, str], file: str, former: Mapping[str, str] | None = None) -> None:
        self.origins, self.file, self.former = origins, file, former or {}
        self.problems: list[str] = []
        self.removable: list[str] = []  # keys of PaddleClas that cannot be followed and may be left out
        self.ignored: list[str] = []  # keys of PaddleClas that have no effect here

    def problem(self, key: str, text: str) -> None:
        """Record what is wrong at `key`, with the line or the option that its value came from."""
        where, at = key, self.origins.get(key)
        if at is None or not at.startswith("-"):  # a part of it may have been given on the command line
            given = (o for k, o in self.origins.items() if k.startswith(f"{key}.") and o.startswith("-"))
            at = next(given, at)
        while at is None and "." in where:
            where = where.rpartition(".")[0]
            at = self.origins.get(where)
        problem = placed(at or self.file, key, text)
        if problem not in self.problems:
            self.problems.append(problem)

    def mapping(self, key: str, value: Any, *, missing_ok: bool = False) -> dict[str, Any]:
        """Return `value` if it is a block of keys, else report it and return an empty one."""
        if isinstance(value, dict):
            return value
        if value is not None or not missing_ok:
            self.problem(key, "missing" if value is None else f"got {show(value)}, expected a block of keys")
        return {}

    def unknown(self, key: str, values: Mapping[str, Any], valid: Collection[str], cls: type[Keys] = Keys) -> None:
        """Report keys that are not `valid`; those of PaddleClas are accepted where they are off, and else explained.

        Of PaddleClas are what config/unsupported.py explains, and what `cls` does not support, whose defaults there
        are accepted too.
        """
        for name, value in values.items():
            dotted = f"{key}.{name}" if key else name
            if name in valid:
                continue
            advice = unsupported_key(dotted)
            if name in cls.not_supported:
                advice = unsupported_key(f"{cls.__name__}.{name}") or "leave it out"
            usual = cls.not_supported.get(name)
            if advice is None:
                self.problem(dotted, f"unknown key{guess_or_all(name, valid)}")
            elif value is None or (value == usual if usual else _is_off(value)):
                self.ignored.append(dotted)
            else:
                self.problem(dotted, f"exists in PaddleClas, but not here: {advice}")
                self.removable.append(dotted)

    def block(self, key: str, values: Mapping[str, Any], cls: type[T], **given: Any) -> T | None:
        """Return a `cls` with its keys from `values`, all checked; `given` are fields that are not keys."""
        before = len(self.problems)
        fields = {name: field for name, field in fields_of(cls).items() if name not in given}
        values = {cls.renamed.get(name, name): value for name, value in values.items()}
        self.unknown(key, values, [*fields, *cls.ignored], cls)
        self.ignored += [f"{key}.{name}" for name in values if name in cls.ignored and name not in fields]
        for name, value in values.items():
            if name in fields:
                given[name] = self.value(f"{key}.{name}", value, fields[name])
        for name, field in fields.items():
            if field.needed and name not in given:
                self.problem(key, f"{given.get('name') or cls.__name__} needs {name}" if given else f"needs {name}")
        if len(self.problems) > before:
            return None
        block = cls(**given)
        for name, text in block.problems():
            self.problem(f"{key}.{name}" if name else key, text)
        return block if len(self.problems) == before else None

    def value(self, key: str, value: Any, field: Field) -> Any:
        """Return `value` as the field has it; report one that does not fit and return None."""
        inner = next((kind.cls for kind in field.kinds if isinstance(kind, Block)), None)
        if inner is not None and isinstance(value, dict):
            kind = kind_of(inner)
            return self.block(key, value, inner) if kind is None else self.named(key, kind.singular, value)
        if (
            value is False
            and field.optional
            and not any(kind.fits(value) and str(kind) != "null" for kind in field.kinds)
        ):
            return None  # some files write `pretrained_model: False` for none
        try:
            return convert(field.kinds, value)
        except Misfit:
            if self.explained(key, value):
                return None
            choices = [word for kind in field.kinds for word in getattr(kind, "values", ()) if word is not None]
            why = (
                f": {field.meaning}" if len(choices) == 1 else guess(value, [w for w in choices if isinstance(w, str)])
            )
            self.problem(key, f"got {show(value)}, expected {describe(field.kinds)}{why}")
            return None

    def explained(self, key: str, value: Any) -> bool:
        """Report a value that PaddleClas has and this program has not; return whether it is one."""
        advice = unsupported_value(key, value) if isinstance(value, str) else None
        if advice is not None:
            self.problem(key, f"{value} exists in PaddleClas, but not here: {advice}")
        return advice is not None

    def part(self, key: str, kind: PartKind, name: Any, args: Mapping[str, Any], **given: Any) -> Any:
        """Return the part of `kind` called `name` with its arguments checked; None if it has problems."""
        try:
            cls = kind.find(name) if isinstance(name, str) else None
        except ConfigError as error:
            self.problem(key, error.message)
            return None
        if cls is not None:
            return self.block(key, self.without_former(key, kind, args, cls), cls, name=name, **given)
        if name is None:
            self.problem(key, "name: missing")
        elif isinstance(name, str) and (advice := unsupported_class(kind.singular, name)) is not None:
            self.problem(key, f"{name}: this {kind.singular} exists in PaddleClas, but not here: {advice}")
        else:
            self.unknown_name(key, kind, name)
        return None

    def without_former(self, key: str, kind: PartKind, args: Mapping[str, Any], cls: type[Part]) -> Mapping[str, Any]:
        """Return arguments without those that the file has for another part, which an option has replaced by `cls`."""
        before = None
        with contextlib.suppress(ConfigError):  # a part that is replaced need not work
            before = kind.find(self.former[key]) if key in self.former else None
        if before is None or before is cls:
            return args
        theirs = _keys_of(before) - _keys_of(cls)
        return {
            name: value
            for name, value in args.items()
            if name not in theirs or self.origins.get(f"{key}.{name}", "-").startswith("-")
        }

    def named(self, key: str, kind: str, value: Any, **given: Any) -> Any:
        """Return the part of a `{name: X, argument: ...}` block."""
        block = dict(self.mapping(key, value))
        return self.part(key, KINDS[kind], block.pop("name", None), block, **given) if block else None

    def listed(self, key: str, kind: str, value: Any) -> list[Any]:
        """Return the parts of a list of `- Name: {arguments}`."""
        return [part for _, part in self.listed_at(key, kind, value)]

    def listed_at(self, key: str, kind: str, value: Any) -> list[tuple[str, Any]]:
        """Return the dotted key of each part of a list with it."""
        parts = [
            (place, self.part(place, KINDS[kind], name, self.mapping(place, args, missing_ok=True)))
            for place, name, args in self.entries(key, self.items(key, value))
        ]
        return [(place, part) for place, part in parts if part is not None]

    def names(self, key: str, kind: str, value: Any) -> None:
        """Report entries of a list of parts that nobody knows, here or in PaddleClas; nothing else of it is read."""
        for place, name, _ in self.entries(key, self.items(key, value)):
            if name not in KINDS[kind].names() and unsupported_class(kind, name) is None:
                self.unknown_name(place, KINDS[kind], name)

    def unknown_name(self, key: str, kind: PartKind, name: Any) -> None:
        """Report what is no name of a part."""
        names = kind.names()
        expected = f"one of the {len(names)} {kind.plural} that exist here{guess_or_all(name, names)}"
        self.problem(key, f"got {show(name)}, expected {expected}")

    def items(self, key: str, value: Any) -> list[Any]:
        """Return the entries of a list of parts, one without arguments as a block too; report what is no such list."""
        if not isinstance(value, list):
            self.problem(key, f"got {show(value)}, expected a list of - Name: {{arguments}}")
            return []
        if len(value) > MOST_ENTRIES:
            self.problem(key, f"has {len(value):,} entries, expected at most {MOST_ENTRIES}")
            return []
        return [{item: None} if isinstance(item, str) else item for item in value]

    def entries(self, key: str, items: Sequence[Any], content: str = "{arguments}") -> Iterator[tuple[str, str, Any]]:
        """Yield dotted key, name and content of each entry `- Name: content`; report all others."""
        for number, item in enumerate(items):
            if isinstance(item, dict) and len(item) == 1:
                ((name, value),) = item.items()
                yield f"{key}.{number}.{name}", name, value
            else:
                self.problem(f"{key}.{number}", f"got {show(item)}, expected one entry - Name: {content}")


def make_part(kind: str, name: str, /, **args: Any) -> Any:
    """Return a part by kind and name, checked like a config's; raise ConfigError with all problems."""
    reader = Reader({}, "")
    part = reader.part(name, KINDS[kind], name, args)
    if reader.problems:
        raise ConfigError(reader.problems[0], details=reader.problems[1:])
    return part


def make_parts(kind: str, value: Any, where: str) -> tuple[Part, ...]:
    """Return the parts of a list of `{Name: {arguments}}`, as a config or an exported model has it."""
    reader = Reader({}, where)
    parts = reader.listed(KINDS[kind].plural, kind, value)
    if reader.problems:
        raise ConfigError(reader.problems[0], details=reader.problems[1:])
    return tuple(parts)
