"""Edit values of a YAML text in place: comments, order and layout stay the same, to the byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from shitu_cli.errors import ConfigError
from shitu_cli.inputs import whole_number
from shitu_cli.inputs.yaml_files import compose_yaml, parse_yaml


@dataclass(frozen=True)
class Change:
    """One edited value; `line` counts from 1; `old` is None for a key that was not there."""

    key: str
    line: int
    old: str | None
    new: str


def patch_yaml(text: str, values: Mapping[str, object]) -> tuple[str, list[Change]]:
    """Set dotted keys to scalars or flat lists; return the new text and the changes.

    Entries of a list of one-key mappings (losses, transforms) are addressed by number or by name. A missing last key is
    added below its parent's first line. Raises ConfigError if a parent is missing too, or if two keys that are to
    differ share one place in the file (`*alias`).
    """
    changes: list[Change] = []
    mark = text[: text.startswith("\ufeff")]  # the positions of nodes do not count a byte-order mark
    text = text.removeprefix("\ufeff")
    for key, value in values.items():
        text, change = _patch_one(text, key, value)
        if change is not None:
            changes.append(change)
    node = _compose(text)
    for key, value in values.items():
        target = node
        for part in key.split("."):
            target = _child(target, part)
        assert target is not None
        if _plain(text[target.start_mark.index : target.end_mark.index], key) != value:
            raise ConfigError(
                f"{key}: shares line {target.start_mark.line + 1} with another key through a YAML alias (*name), but "
                f"only one of them is to become {yaml_scalar(value)}",
                hint="write the block out in both places",
            )
    return mark + text, changes


def yaml_scalar(value: object) -> str:
    """Return `value` as YAML on one line."""
    dumped = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9)
    return dumped.removesuffix("\n").removesuffix("...").removesuffix("\n")


def _compose(text: str) -> yaml.Node | None:
    return compose_yaml(text, "the config", error=ConfigError)


def _plain(text: str, key: str) -> object:
    return parse_yaml(text or "null", key, error=ConfigError)


def _patch_one(text: str, key: str, value: object) -> tuple[str, Change | None]:
    node = _compose(text)
    parts = key.split(".")
    parent: yaml.Node | None = node
    for number, part in enumerate(parts[:-1]):
        parent = _child(parent, part)
        if parent is None:
            raise ConfigError(f"{key}: the config has no {'.'.join(parts[: number + 1])}")
    target = _child(parent, parts[-1])
    new = yaml_scalar(value)
    if target is None:
        return _add(text, parent, key, parts[-1], new)
    start, end = target.start_mark.index, target.end_mark.index
    old = text[start:end]
    if old.startswith("&"):
        raise ConfigError(
            f"{key}: other places use this value through {old.split()[0]} and would change with it",
            hint="write the value out in each place",
        )
    if isinstance(target, yaml.ScalarNode) and target.style in ("|", ">"):
        raise ConfigError(f"{key}: got a block of text, expected one value")
    if _plain(old, key) == value:
        return text, None
    if not old:  # `key:` with nothing after it
        new = f" {new}" if text[start - 1 : start] == ":" else new
    elif isinstance(target, yaml.CollectionNode) and not target.flow_style:
        raise ConfigError(f"{key}: got a block, expected one value")
    return text[:start] + new + text[end:], Change(key, target.start_mark.line + 1, old or None, new.strip())


def _add(text: str, parent: yaml.Node | None, key: str, name: str, new: str) -> tuple[str, Change]:
    if not isinstance(parent, yaml.MappingNode) or parent.flow_style or not parent.value:
        raise ConfigError(f"{key}: cannot be added to the config, as its block is written on one line")
    first = parent.value[0][0].start_mark
    newline = "\r\n" if "\r\n" in text else "\n"
    # A dash before the first key stays where it is.
    line = f"{name}: {new}{newline}{' ' * first.column}"
    return text[: first.index] + line + text[first.index :], Change(key, first.line + 1, None, new)


def _child(node: yaml.Node | None, part: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == part:
                return value
    elif isinstance(node, yaml.SequenceNode):
        if (number := whole_number(part)) is not None:
            return node.value[number] if number < len(node.value) else None
        for item in node.value:
            child = _child(item, part)
            if child is not None:
                return child
    return None
