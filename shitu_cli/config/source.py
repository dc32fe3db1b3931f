"""Read the plain values of a YAML file with the line of each, and apply overrides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from shitu_cli.config.unsupported import unsupported_key
from shitu_cli.errors import ConfigError
from shitu_cli.inputs import read_text, whole_number
from shitu_cli.inputs.yaml_files import MAX_DEPTH, compose_yaml, scalar_value

BLOCKS = ("Global", "Arch", "Loss", "Optimizer", "DataLoader", "Metric", "AMP", "EMA")
MAX_BYTES = 256 << 10  # a config has about 5 KiB

# Keys of Arch.Backbone that belong to the weights it starts from.
START_KEYS = ("pretrained", "use_ssld", "freeze_norm", "freeze_at", "lr_mult", "layer_decay")

UNREADABLE = object()  # in place of a value that was reported already


def placed(origin: str, key: str, text: str) -> str:
    """Return a problem with its origin and its key; an origin on the command line includes the key."""
    if not origin:
        return f"{key}: {text}"
    named = origin.startswith("-") and _without_numbers(key) in _without_numbers(origin)
    return f"{origin}: {text}" if named else f"{origin}: {key}: {text}"


def _without_numbers(key: str) -> str:
    """Return a key without positions in lists, which `-o` may leave out: Loss.Train.CELoss.weight."""
    return ".".join(part for part in key.split(".") if not part.isdigit())


class ConfigSource:
    """Plain values of a YAML text with the origin (`file:line`) of each dotted key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []
        self.origins: dict[str, str] = {}
        self.former: dict[str, str] = {}  # names of parts in the file, by their keys, that options have replaced
        self.left_out: dict[str, Any] = {}  # keys with their values that belong to a network which an option replaced
        node = compose_yaml(read_text(path, limit=MAX_BYTES, error=ConfigError), path, error=ConfigError)
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}: expected a mapping with the blocks {', '.join(BLOCKS[:5])}")
        self.values: dict[str, Any] = self._value(node, "", self._line)

    def _line(self, node: yaml.Node) -> str:
        return f"{self.path}:{node.start_mark.line + 1}"

    def _value(self, node: yaml.Node, key: str, origin: Callable[[yaml.Node], str]) -> Any:
        """Return a node as plain values; record the origin of each key below `key`, and what cannot be read."""
        if key:
            self.origins[key] = origin(node)
        if isinstance(node, yaml.MappingNode):
            mapping: dict[str, Any] = {}
            for name_node, value_node in node.value:
                name = name_node.value
                dotted = f"{key}.{name}" if key else str(name)
                if not isinstance(name, str):
                    self.problems.append(placed(origin(name_node), key, "a key must be plain text"))
                elif name == "<<":
                    self.problems.append(placed(origin(name_node), dotted, "<< is not supported: write the keys out"))
                elif name in mapping:
                    self.problems.append(placed(origin(name_node), dotted, "this key appears a second time"))
                else:
                    mapping[name] = self._value(value_node, dotted, origin)
                    self.origins[dotted] = origin(name_node)
            return {name: value for name, value in mapping.items() if value is not UNREADABLE}
        if isinstance(node, yaml.SequenceNode):
            items = [self._value(item, f"{key}.{number}", origin) for number, item in enumerate(node.value)]
            return UNREADABLE if UNREADABLE in items else items
        assert isinstance(node, yaml.ScalarNode)
        kind = node.tag.rpartition(":")[2]
        if kind == "timestamp" or (kind in ("int", "float") and ":" in node.value):
            return node.value  # no value here is a date or a number to the base 60: `1:30` is text
        try:
            return _meant(scalar_value(node))
        except ValueError as error:
            self.problems.append(placed(origin(node), key, str(error)))
            return UNREADABLE

    def override(self, text: str) -> None:
        """Apply `Key.path=value`; without a dot the key belongs to Global."""
        key, equals, raw = text.partition("=")
        key = key.strip()
        if not equals or not key:
            self.problems.append(f"-o {text}: expected Key.path=value, such as -o Global.epochs=3")
            return
        if "." not in key and key not in BLOCKS and unsupported_key(key) is None:
            key = f"Global.{key}"
        origin = f"-o {key}"
        try:
            node = compose_yaml(raw, f"-o {text[:80]}", error=ConfigError)
        except ConfigError as error:
            self.problems.append(error.message)
            return
        if key == "Arch.Backbone.name":
            self._leave_start(raw.strip())
        before = dict(self.origins)
        value = None if node is None else self._value(node, key, lambda _: origin)
        self.origins = before  # `set` records the origin under the full key
        if value is not UNREADABLE:
            self.set(key, value, origin)

    def _leave_start(self, network: str) -> None:
        """Drop the keys by which the file starts from published weights of its network, if `network` is another one."""
        arch = self.values.get("Arch")
        backbone = arch.get("Backbone") if isinstance(arch, dict) else None
        if not isinstance(backbone, dict) or backbone.get("name") == network:
            return
        start = backbone.get("pretrained")
        if start is not True and not str(start).startswith(("http://", "https://")):
            return
        for key in START_KEYS:
            if not self.origins.get(f"Arch.Backbone.{key}", "").startswith("-o"):
                if backbone.get(key) not in (None, False):
                    self.left_out[f"Arch.Backbone.{key}"] = backbone[key]
                backbone.pop(key, None)
                self.origins.pop(f"Arch.Backbone.{key}", None)

    def notes(self) -> list[str]:
        """Return notes for the user about keys of the file that have no effect because of options."""
        left = [f"{key}: {value}" for key, value in self.left_out.items() if key not in self.origins]
        if not left:
            return []
        return [
            f"{self.origins['Arch.Backbone.name']}: {self.path.name} starts from weights of a different network, so "
            f"some of its settings are left out ({', '.join(left)}); set them with -o if this network needs them"
        ]

    def ensure(self, key: str) -> str:
        """Return a key without its `+`, which marks an entry of a list that is appended if it is not there."""
        place, _, rest = key.partition(".+")
        name = rest.partition(".")[0]
        if name and not self.has_entry(place, name) and isinstance(items := self.at(place), list):
            items.append({name: {}})
        return key.replace("+", "")

    def has_entry(self, place: str, name: str) -> bool:
        """Return whether the list at a dotted key, such as Loss.Train, has an entry `- name: {arguments}`."""
        items = self.at(place)
        return isinstance(items, list) and any(isinstance(item, dict) and name in item for item in items)

    def at(self, key: str) -> Any:
        """Return the value at a dotted key of mappings; None if there is none."""
        value: Any = self.values
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def set(self, key: str, value: object, origin: str) -> None:
        """Set a dotted key; create missing mappings on the way."""
        parts = key.split(".")
        if len(parts) > MAX_DEPTH:
            self.problems.append(f"{origin[:80]}: more than {MAX_DEPTH} levels of keys")
            return
        container: Any = self.values
        walked: list[str] = []
        for number, part in enumerate(parts[:-1]):
            if isinstance(container, list) and _place(container, part) is None:
                # Entries of lists of one-key mappings (losses, transforms) may be addressed by name.
                at = next((n for n, item in enumerate(container) if isinstance(item, dict) and part in item), None)
                if at is not None:
                    container, walked = container[at], [*walked, str(at)]
            walked.append(part)
            following = _step(container, part)
            if following is None and isinstance(container, dict):
                following = container[part] = {}
            if not isinstance(following, (dict, list)):
                self.problems.append(f"{origin}: there is nothing at {'.'.join(parts[: number + 1])}")
                return
            container = following
        last = parts[-1]
        if isinstance(container, list):
            place = _place(container, last)
            if place is None:
                self.problems.append(f"{origin}: there is nothing at {key}")
                return
            container[place] = value
        else:
            before, container[last] = container.get(last), value
            if last == "name" and isinstance(before, str):
                self.former.setdefault(".".join(walked), before)
        whole = ".".join([*walked, last])
        for below in [name for name in self.origins if name.startswith(f"{whole}.")]:
            del self.origins[below]  # what was there before
        self.origins[whole] = origin


def _step(container: Any, part: str) -> Any:
    if isinstance(container, dict):
        return container.get(part)
    place = _place(container, part)
    return None if place is None else container[place]


def _place(items: list[Any], part: str) -> int | None:
    """Return the position in a list that `part` names, None if it names none."""
    place = whole_number(part)
    return place if place is not None and place < len(items) else None


def _meant(value: Any) -> Any:
    """Return the number that a text like `1e-5` means, which YAML 1.1 reads as text, and nothing for Python's None."""
    if value == "None":
        return None
    if isinstance(value, str) and value[:1] in "+-.0123456789" and "e" in value.lower():
        try:
            return float(value)
        except ValueError:
            return value
    return value
