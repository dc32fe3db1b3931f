"""The parts that a config may name, by kind and name: those of this program, and those that installed packages add.

A package adds one by an entry point in a group such as `shitu.losses` that leads to a subclass of the kind's base
class (`docs/extend.md`). It is loaded only when a config names it.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from types import ModuleType

from shitu_cli.config.parts.base import Part, plain
from shitu_cli.errors import ConfigError
from shitu_cli.extensions import extension_names, load_extension

__all__ = ["KINDS", "Part", "PartKind", "kind_of", "plain"]


@dataclass(frozen=True)
class PartKind:
    """A kind of part: its file in this package and the class that all its parts derive from.

    `further` is a second file, loaded only for names that the first one lacks.
    """

    singular: str
    plural: str
    base_name: str
    further: str = ""

    @property
    def base(self) -> type[Part]:
        base: type[Part] = getattr(_module(self.plural), self.base_name)
        return base

    @functools.cached_property
    def parts(self) -> dict[str, type[Part]]:
        """The program's own parts by every name that a config may use for them."""
        return _parts_of(self, self.plural) | (_parts_of(self, self.further) if self.further else {})

    def names(self) -> list[str]:
        """Return all names, those of installed packages last."""
        return [*self.parts, *(name for name in extension_names(self.group) if name not in self.parts)]

    def find(self, name: str) -> type[Part] | None:
        """Return the part called `name`, also from installed packages; raise ConfigError if theirs does not fit."""
        builtin = _parts_of(self, self.plural).get(name) or self.parts.get(name)
        if builtin is not None:
            return builtin
        part = load_extension(self.group, name, type)
        if part is not None and not (issubclass(part, self.base) and part.built_by):
            raise ConfigError(
                f"{name}: {part.__module__}.{part.__name__} is not a {self.base_name} with built_by",
                hint=f"docs/extend.md shows what {self.group} holds",
            )
        return part

    @property
    def group(self) -> str:
        """The group of entry points by which installed packages add parts of this kind."""
        return f"shitu.{self.plural}"


KINDS = {
    kind[0]: PartKind(*kind)
    for kind in (
        ("backbone", "backbones", "Backbone"),
        ("neck", "necks", "Neck"),
        ("head", "heads", "Head"),
        ("loss", "losses", "Loss"),
        ("metric", "metrics", "Metric"),
        ("optimizer", "optimizers", "Optimizer"),
        ("schedule", "schedules", "Schedule"),
        ("sampler", "samplers", "Sampler"),
        ("transform", "transforms", "Transform", "augmentations"),
        ("initializer", "initializers", "Initializer"),
    )
}


def _module(file: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{file}")


@functools.cache
def _parts_of(kind: PartKind, file: str) -> dict[str, type[Part]]:
    """Return the parts of a kind that a file holds, by all of their names."""
    items = [item for item in vars(_module(file)).values() if isinstance(item, type) and issubclass(item, kind.base)]
    return {name: part for part in items if part.built_by for name in part.variants}


def kind_of(base: type) -> PartKind | None:
    """Return the kind whose parts derive from `base`, None for other classes."""
    return next((kind for kind in KINDS.values() if base.__name__ == kind.base_name and base is kind.base), None)
