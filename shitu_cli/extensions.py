"""Load what installed packages add by entry points: parts of a config (`shitu.losses`, ...) and source formats.

Names are looked up without importing anything; an extension is loaded when it is used.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from shitu_cli.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

T = TypeVar("T")


@lru_cache(maxsize=32)
def _entry_points(group: str, path: tuple[str, ...]) -> EntryPoints:
    """Return what the packages on `sys.path` add to a group; to read the metadata of all takes tens of milliseconds."""
    from importlib.metadata import entry_points  # loads much; most commands ask for no name that is not ours

    return entry_points(group=group)


def extension_names(group: str) -> list[str]:
    """Return the names that installed packages add to a group, in alphabetical order."""
    return sorted(_entry_points(group, tuple(sys.path)).names)


def load_extension(group: str, name: str, kind: type[T]) -> T | None:
    """Return the extension called `name`, None if there is none; raise ConfigError if it is broken or not a `kind`."""
    for point in _entry_points(group, tuple(sys.path)).select(name=name):
        package = point.dist.name if point.dist is not None else "an installed package"
        where = f"{name}: {point.value}, which {package} adds to {group},"
        try:
            extension = point.load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"{where} cannot be loaded: {error}", hint=f"update {package}, or uninstall it"
            ) from error
        if not isinstance(extension, kind):
            raise ConfigError(f"{where} is not what the group is for", hint=f"docs/extend.md shows what {group} holds")
        return extension
    return None
