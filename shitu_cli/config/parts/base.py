"""The base of all parts: frozen dataclasses with the arguments that a config gives to a backbone, a loss, ..."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from shitu_cli.config.kinds import NO_KEY, Keys, fields_of

Variants = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Part(Keys):
    """Arguments of something that a config chooses by name; the fields are its keys.

    `built_by` names what to build from a subclass: `module:object`, or a module with an object of the subclass's name,
    which is called with the part. `variants` are the names by which a config chooses the part (by default the name of
    the class), each with values for fields that the config does not set (`field(init=False)`).
    """

    built_by: ClassVar[str] = ""
    variants: ClassVar[Variants] = {}
    name: str = field(default="", kw_only=True, metadata=NO_KEY)

    def __init_subclass__(cls, built_by: str = "", variants: Variants | None = None) -> None:
        super().__init_subclass__()
        module, _, target = built_by.partition(":")
        cls.built_by = f"{module}:{target or cls.__name__}" if module else ""
        cls.variants = variants or {cls.__name__: {}}

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", next(iter(self.variants)))
        for name, value in self.variants.get(self.name, {}).items():
            object.__setattr__(self, name, value)

    @property
    def args(self) -> dict[str, Any]:
        """The keys whose values are not the defaults."""
        fields = fields_of(type(self)).values()
        return {key.name: getattr(self, key.name) for key in fields if getattr(self, key.name) != key.default}

    def build(self, *context: Any) -> Any:
        """Build what the part describes; `context` are further arguments that its kind takes."""
        module, _, target = self.built_by.partition(":")
        return getattr(importlib.import_module(module), target)(self, *context)


def plain(value: Any) -> Any:
    """Return a part or a block as plain values, as a config has it: nested mappings, tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        block = {"name": value.name} if isinstance(value, Part) else {}
        return block | {name: plain(getattr(value, name)) for name in fields_of(type(value))}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
