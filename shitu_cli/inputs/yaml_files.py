"""Read YAML that somebody else wrote: bounded in size, depth and aliases, plain values only.

A few aliases of aliases can stand for billions of nodes, and PyYAML's constructors raise many kinds of errors. Here the
events are counted before anything is built, and every failure becomes an error with file and line.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import yaml

from shitu_cli.errors import DataError, Message, ShituError
from shitu_cli.inputs.files import MIB, StrPath, read_text

MAX_DEPTH = 64
# How many nodes all aliases together may refer to.
MAX_ALIASED = 100_000
# PyYAML takes some 500 bytes for each value, of which a file can hold one in two bytes.
MAX_VALUES = 1_000_000
# Longer plain numbers are refused: YAML's base 60 and huge integers take time that grows with the square.
_MAX_NUMBER = 64
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
# Parsing in C, about ten times as fast, where PyYAML was built with it.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(
    path: StrPath, *, limit: int = MIB, error: type[ShituError] = DataError, hint: Message | None = None
) -> Any:
    """Read one YAML document of plain values from a UTF-8 file of at most `limit` bytes.

    Raises `error` with file and line for invalid YAML, nesting deeper than 64 levels, more than a million values,
    aliases that stand for more than 100,000 or contain themselves, and values that do not fit their type; other errors
    are those of `open_input`.
    """
    return parse_yaml(read_text(path, limit=limit, error=error, hint=hint), path, error=error, hint=hint)


def parse_yaml(text: str, source: StrPath, *, error: type[ShituError] = DataError, hint: Message | None = None) -> Any:
    """Parse YAML as `read_yaml` does; `source` is the name to give in errors."""
    name = os.fspath(source)
    node = compose_yaml(text, source, error=error, hint=hint)
    if node is None:
        return None
    try:
        return _PlainConstructor().construct_document(node)
    except yaml.YAMLError as problem:
        raise _invalid(name, problem, error, hint) from None


def compose_yaml(
    text: str, source: StrPath, *, error: type[ShituError] = DataError, hint: Message | None = None
) -> yaml.Node | None:
    """Return the nodes of a YAML text with their positions, None for an empty one; limits and errors as in `read_yaml`.

    A node that an alias names is shared, not copied.
    """
    name = os.fspath(source)
    try:
        _check_events(text, name, error, hint)
        return yaml.compose(text, Loader=_Parser)
    except yaml.YAMLError as problem:
        raise _invalid(name, problem, error, hint) from None
    except ValueError:  # lone surrogates, which come from bytes of a command line
        raise error(f"{name}: not valid YAML: it holds bytes that are not UTF-8 text", hint=hint) from None


def scalar_value(node: yaml.ScalarNode) -> Any:
    """Return the plain value of a scalar; raise ValueError that says why its text does not fit its type."""
    try:
        return _PlainConstructor().construct_object(node)
    except yaml.YAMLError as problem:
        raise ValueError(getattr(problem, "problem", None) or str(problem)) from None


def is_text(plain: str) -> bool:
    """Return whether YAML takes a scalar without quotes for text, and not for a number, a date, a truth value."""
    patterns = yaml.SafeLoader.yaml_implicit_resolvers
    return not any(pattern.match(plain) for _, pattern in (*patterns.get(plain[:1], ()), *patterns.get(None, ())))


class _PlainConstructor(yaml.constructor.SafeConstructor):
    """Builds only YAML's own types, and raises only YAMLError."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag in _NUMBERS and isinstance(node.value, str) and len(node.value) > _MAX_NUMBER:
            raise _impossible(node)
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError):
            # PyYAML trusts a text to be of its tag: `!!int ""`, `!!bool maybe`, `!!timestamp x`, 2001-99-99
            raise _impossible(node) from None


def _impossible(node: yaml.Node) -> yaml.constructor.ConstructorError:
    text = node.value[:40] if isinstance(node.value, str) else ""
    kind = node.tag.rpartition(":")[2]
    return yaml.constructor.ConstructorError(None, None, f"{text!r} is not a value of type {kind}", node.start_mark)


def _check_events(text: str, name: str, error: type[ShituError], hint: Message | None) -> None:
    """Walk through the events of a text, without recursion, and refuse what would grow without bound."""
    sizes: dict[str, int | None] = {}  # nodes below an anchor; None while it is still open
    open_nodes: list[tuple[str | None, int]] = []  # anchor and nodes so far of each collection around
    aliased = values = 0
    events: Iterable[Any] = yaml.parse(text, Loader=_Parser)
    for event in events:
        if isinstance(event, yaml.NodeEvent):
            values += 1
            if values > MAX_VALUES:
                raise error(f"{name}:{_line(event)}: more than {MAX_VALUES:,} values", hint=hint)
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, 1))
            if event.anchor:
                sizes[event.anchor] = None
            if len(open_nodes) > MAX_DEPTH:
                line = _line(event)
                raise error(f"{name}:{line}: nested more than {MAX_DEPTH} levels deep", hint=hint)
            continue
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor or "", 1)  # an unknown anchor is reported by the composer
            line = _line(event)
            if size is None:
                raise error(f"{name}:{line}: the alias *{event.anchor} contains itself", hint=hint)
            aliased += size
            if aliased > MAX_ALIASED:
                raise error(f"{name}:{line}: its aliases stand for more than {MAX_ALIASED} values", hint=hint)
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
            if anchor:
                sizes[anchor] = size
        else:
            continue
        if open_nodes:
            anchor, before = open_nodes[-1]
            open_nodes[-1] = (anchor, before + size)


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _invalid(name: str, problem: yaml.YAMLError, error: type[ShituError], hint: Message | None) -> ShituError:
    mark = getattr(problem, "problem_mark", None)
    where = f"{name}:{mark.line + 1}" if mark else name
    reason = getattr(problem, "problem", None) or str(problem).splitlines()[0]
    return error(f"{where}: not valid YAML: {reason}", hint=hint or "check indentation and colons there")
