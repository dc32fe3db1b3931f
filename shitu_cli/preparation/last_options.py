"""The options of the last `prepare`: the same command without options then does the same again."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from shitu_cli.config.arguments import DEPTH, SEED, SHARE, require
from shitu_cli.errors import DataError, UsageError
from shitu_cli.inputs import read_json_object
from shitu_cli.preparation.choices import Choices
from shitu_cli.preparation.corrections import NONE
from shitu_cli.preparation.formats.base import ReadOptions
from shitu_cli.preparation.formats.columns import parse_columns
from shitu_cli.preparation.list_digests import RECORD, digests_of
from shitu_cli.stores import address_of
from shitu_cli.workspace import Workspace

_WAY_OUT = "remove it: it holds the options of the last prepare only"
SPLITS = ("auto", "open", "closed", "none")
# Options that say how a source is read belong together: a new value for one of them discards the others.
_READING = ("format", "columns", "protocol", "image_root", "encoding", "depth")
_PATHS = {"image_root", "corrections"}
_TYPES = {"share": float, "seed": int, "depth": int, "keep_apart": bool, "digests": dict, "before": dict}


@dataclass(frozen=True)
class PrepareOptions:
    """The options that decide which images go where; None is one that was not given."""

    format: str | None = None
    columns: str | None = None
    protocol: str | None = None
    image_root: str | None = None
    split: str | None = None
    share: float | None = None
    seed: int | None = None
    encoding: str | None = None
    depth: int | None = None
    keep_apart: bool | None = None
    corrections: str | None = None

    def choices(self, *, fix: bool, quick: bool) -> Choices:
        """Return them with the defaults of Choices filled in. Raises UsageError for an invalid value."""
        if self.split not in (None, *SPLITS):
            raise UsageError(f"--split {self.split}: expected auto, open, closed or none")
        require(SHARE, share=self.share)
        require(SEED, seed=self.seed)
        require(DEPTH, depth=self.depth)
        root = None if self.image_root is None else Path(self.image_root)
        given = {
            key: value for key in ("format", "split", "share", "seed") if (value := getattr(self, key)) is not None
        }
        read = ReadOptions(parse_columns(self.columns), self.protocol, root, self.encoding, self.depth)
        corrections = None if self.corrections in (None, NONE) else Path(self.corrections)
        apart = bool(self.keep_apart)
        return Choices(fix=fix, quick=quick, read=read, keep_apart=apart, corrections=corrections, **given)

    def typed(self) -> str:
        """Return the options as they are typed: `--split none --seed 3`."""
        given = {key.replace("_", "-"): value for key, value in asdict(self).items() if value is not None}
        return " ".join(
            f"--{key}" if value is True else f"--{key} {shlex.quote(str(value))}" for key, value in given.items()
        )


def complete_options(
    space: Workspace, sources: Sequence[Path], options: PrepareOptions
) -> tuple[PrepareOptions, PrepareOptions]:
    """Return the options completed by those of the last run for the same sources, and those alone.

    Raises DataError if the file that holds them is damaged.
    """
    values = _read(space)
    if values.pop("sources", None) != _names(space, sources):
        return options, PrepareOptions()
    given = {key for key, value in asdict(options).items() if value is not None}
    if given & set(_READING):
        given |= set(_READING)
    earlier = {field.name for field in fields(PrepareOptions)} - given
    before = PrepareOptions(**{key: value for key, value in values.items() if key in earlier})
    return replace(before, **{key: getattr(options, key) for key in given}), before


def reading_of(space: Workspace, source: Path) -> tuple[Choices, list[Path]]:
    """Return how `prepare` last read a source, and all sources that it read together; the defaults for another one."""
    values = _read(space)
    sources = values.pop("sources", None) or ()
    if name_in(space, source) not in sources:
        return Choices(), [source]
    options = PrepareOptions(**{field.name: values.get(field.name) for field in fields(PrepareOptions)})
    return options.choices(fix=False, quick=False), [_source_of(space, name) for name in sources]


def _source_of(space: Workspace, name: str) -> Path:
    return Path(name) if address_of(name) else space.root / name


def record(
    space: Workspace, sources: Sequence[Path], options: PrepareOptions, written: Mapping[str, Path]
) -> dict[str, object]:
    """Return what to keep beside the lists: the options, and the digests of these lists and of those before.

    `written` maps the name of each list to the file that holds its new content.
    """
    values = {key: value for key, value in asdict(options).items() if value is not None}
    if options.corrections == NONE:
        del values["corrections"]
    for key in _PATHS & values.keys():
        values[key] = path_in(space.root, Path(values[key]))
    return {"sources": _names(space, sources), **values, **digests_of(space, written)}


def path_in(root: Path, path: Path) -> str:
    """Return a path relative to the workspace if it is inside, so that this can be moved as a whole; else absolute."""
    if (address := address_of(path)) is not None:
        return address
    path = Path(os.path.abspath(path))
    if path.is_relative_to(root):
        return f"./{path.relative_to(root).as_posix()}" if path != root else "./"
    return path.as_posix()


def _names(space: Workspace, sources: Sequence[Path]) -> list[str]:
    return [name_in(space, source) for source in sources]


def name_in(space: Workspace, source: Path) -> str:
    """Return how the record names a source: with all links followed, an address as it is."""
    return path_in(space.root, source if address_of(source) else source.resolve())


def _read(space: Workspace) -> dict[str, Any]:
    """Return the record of the last run, with absolute paths; {} without one."""
    path = space.lists_dir / RECORD
    if not path.exists():
        return {}
    values = read_json_object(path, hint=_WAY_OUT)
    names = {field.name for field in fields(PrepareOptions)}
    if not values.keys() <= {"sources", "digests", "before", *names}:
        raise _damaged(path, f"expected only {', '.join(sorted(names))}")
    for key, value in values.items():
        if key != "sources" and not isinstance(value, _TYPES.get(key, str)):
            raise _damaged(path, f"{key}: got {value!r}")
    return values | {key: str(space.root / values[key]) for key in _PATHS & values.keys()}


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"cannot read {path}: {why}", hint=_WAY_OUT)
