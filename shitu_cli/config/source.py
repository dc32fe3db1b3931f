"""Plain values of a YAML file, each with the place it came from, and overrides on top."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from shitu_cli.errors import ConfigError

BLOCKS = ("Global", "Arch", "Loss", "Optimizer", "DataLoader", "Metric", "AMP", "EMA")


class Source:
    """Plain values of a YAML text with the origin (`file:line`) of each dotted key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []
        self.origins: dict[str, str] = {}
        try:
            text = path.read_text(encoding="utf-8-sig")
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read {path}: {error}") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{path}:{mark.line + 1}" if mark else str(path)
            problem = getattr(error, "problem", None) or str(error).splitlines()[0]
            raise ConfigError(
                f"{where}: not valid YAML: {problem}", hint="check indentation and colons there"
            ) from None
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}: expected a mapping with the blocks {', '.join(BLOCKS[:5])}")
        self.values: dict[str, Any] = self._value(node, "")

    def _value(self, node: yaml.Node, key: str) -> Any:
        if key:
            self.origins[key] = f"{self.path}:{node.start_mark.line + 1}"
        if isinstance(node, yaml.MappingNode):
            mapping: dict[str, Any] = {}
            for name_node, value_node in node.value:
                name = str(name_node.value)
                dotted = f"{key}.{name}" if key else name
                if name in mapping:
                    line = name_node.start_mark.line + 1
                    self.problems.append(f"{self.path}:{line}: {dotted}: stands here a second time")
                mapping[name] = self._value(value_node, dotted)
                self.origins[dotted] = f"{self.path}:{name_node.start_mark.line + 1}"
            return mapping
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, f"{key}.{number}") for number, item in enumerate(node.value)]
        try:
            value = yaml.SafeLoader("").construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError):
            self.problems.append(f"{self.path}:{node.start_mark.line + 1}: {key}: cannot be read as a value")
            return None
        return _number(value)

    def override(self, text: str) -> None:
        """Apply `Key.path=value`; without a dot the key belongs to Global."""
        key, equals, raw = text.partition("=")
        key = key.strip()
        if not equals or not key:
            self.problems.append(f"-o {text}: expected Key.path=value, such as -o Global.epochs=3")
            return
        try:
            value = yaml.safe_load(raw) if raw.strip() else None
        except yaml.YAMLError:
            self.problems.append(f"-o {text}: the value is not valid YAML")
            return
        if "." not in key and key not in BLOCKS:
            key = f"Global.{key}"
        self.set(key, _number(value), f"-o {key}")

    def set(self, key: str, value: object, origin: str) -> None:
        """Set a dotted key, making mappings on the way where there are none."""
        parts = key.split(".")
        here: Any = self.values
        walked: list[str] = []
        for number, part in enumerate(parts[:-1]):
            if isinstance(here, list) and not part.isdigit():
                # Lists of one-key mappings (losses, transforms) may be walked by the name of the entry.
                at = next((n for n, item in enumerate(here) if isinstance(item, dict) and part in item), None)
                if at is not None:
                    here, walked = here[at], [*walked, str(at)]
            walked.append(part)
            following = _step(here, part)
            if following is None and isinstance(here, dict):
                following = here[part] = {}
            if not isinstance(following, (dict, list)):
                self.problems.append(f"{origin}: there is nothing at {'.'.join(parts[: number + 1])}")
                return
            here = following
        last = parts[-1]
        if isinstance(here, list):
            if not last.isdigit() or int(last) >= len(here):
                self.problems.append(f"{origin}: there is nothing at {key}")
                return
            here[int(last)] = value
        else:
            here[last] = value
        whole = ".".join([*walked, last])
        for below in [known for known in self.origins if known.startswith(f"{whole}.")]:
            del self.origins[below]  # what stood there before
        self.origins[whole] = origin


def _step(here: Any, part: str) -> Any:
    if isinstance(here, dict):
        return here.get(part)
    if part.isdigit() and int(part) < len(here):
        return here[int(part)]
    return None


def _number(value: Any) -> Any:
    """YAML 1.1 reads `1e-5` as text; people mean the number."""
    if isinstance(value, str) and value[:1] in "+-.0123456789" and "e" in value.lower():
        try:
            return float(value)
        except ValueError:
            return value
    return value
