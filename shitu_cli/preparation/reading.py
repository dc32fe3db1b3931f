"""Read one source, or several that become one data set."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shitu_cli.data.lists import is_distractor
from shitu_cli.errors import DataError, ShituError, UsageError
from shitu_cli.inputs import open_input
from shitu_cli.preparation.choices import Choices
from shitu_cli.preparation.formats import read_source
from shitu_cli.preparation.formats.base import ANNOTATIONS, DATASET, FOLDERS, PACKED, TABLE, Format, Rows
from shitu_cli.preparation.formats.discovery import spread
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.splits import split_of_file, split_of_folder
from shitu_cli.preparation.formats.unreadable import packed_problem
from shitu_cli.preparation.numbering import natural
from shitu_cli.preparation.problems import Problems
from shitu_cli.preparation.unlabelled import no_labels
from shitu_cli.stores import address_of, is_archive, is_there, join

MAX_READINGS = 6  # lines that say what was read as what


@dataclass(frozen=True)
class _Part:
    """A source, the format that reads it, and its rows."""

    source: Path
    format: Format
    rows: Rows


def check_source(path: Path) -> None:
    """Raise UsageError for a source that is not there, or that is neither a folder nor a regular file."""
    if address_of(path) is not None:
        return  # checked when it is listed
    if not path.exists():
        raise UsageError(
            f"no such folder or file: {path}", hint="check the path; put it in quotes if it contains spaces"
        )
    if not path.is_dir():
        open_input(path, error=UsageError).close()  # a pipe would be waited for, a device has no end


def are_shards(sources: Sequence[Path]) -> bool:
    """Return whether sources are archives of one folder, as the shell lists the shards of a data set."""
    one_folder = len({source.parent for source in sources}) == 1
    return one_folder and all(is_archive(source) and source.is_file() for source in sources)


def read_sources(sources: Sequence[Path], choices: Choices, problems: Problems) -> tuple[Rows, list[Format]]:
    """Return the rows of one source, or of several merged; and the formats that read them.

    Raises DataError if a source holds no labelled image, UsageError if the user has to decide something.
    """
    if len(sources) > 1 and are_shards(sources):  # shards of one data set, in which the same number is the same class
        options = dataclasses.replace(choices.read, archives=frozenset(source.name for source in sources))
        choices, sources = dataclasses.replace(choices, read=options), [sources[0].parent]
    parts = [_read(source, choices, problems, alone=len(sources) == 1) for source in sources]
    if len(parts) == 1:
        return parts[0].rows, [parts[0].format]
    if choices.read.protocol is not None and not any(part.format.protocols for part in parts):
        raise UsageError(
            f"--protocol {choices.read.protocol}: none of the sources has several official splits", hint="leave it out"
        )
    return _merge(parts, keep_apart=choices.keep_apart), [part.format for part in parts]


def _read(path: Path, choices: Choices, problems: Problems, *, alone: bool) -> _Part:
    if path.is_dir() and not any(os.scandir(path)):
        raise DataError(f"{path} is empty", hint="put the images of each class into a folder named after it there")
    source = Source(path, choices.read)

    def check(chosen: Format) -> None:
        if not alone and not chosen.protocols:  # it is meant for another source
            source.options = dataclasses.replace(source.options, protocol=None)
        _check_options(chosen, dataclasses.replace(choices, read=source.options))

    try:
        chosen, rows = read_source(source, problems, choices.format, check)
    except ShituError as error:
        raise packed_problem(source) or error from None
    if not any(map(is_there, map(rows.location, spread(range(len(rows)))))) and (packed := packed_problem(source)):
        raise packed
    if not len(rows):
        raise no_labels(source, chosen, problems)
    return _Part(path, chosen, rows)


def describe(rows: Rows) -> list[str]:
    """Return lines that say how each file was read, and which files beside were not used."""
    unused = [f"not used: {name} ({why})" for name, why in sorted(rows.unused.items())]
    return [
        *_first(rows.readings, "more files, read in the same way"),
        *_first(unused, "more that are not used"),
    ]


def _first(lines: Sequence[str], rest: str) -> list[str]:
    more = len(lines) - MAX_READINGS
    return [*lines[:MAX_READINGS], *([f"... and {more:,} {rest}"] if more > 0 else [])]


def _check_options(chosen: Format, choices: Choices) -> None:
    """Refuse options that the format would ignore."""
    name, read = chosen.name, choices.read
    if read.protocol is not None and not chosen.protocols:
        raise UsageError(f"--protocol {read.protocol}: {name} has no choice of official splits", hint="leave it out")
    ignored = read.columns.keys() - chosen.columns if chosen.rank != TABLE else ()
    if ignored:
        raise UsageError(
            f"--columns {', '.join(sorted(ignored))}=...: {name} has no such columns", hint="--format table"
        )
    if read.depth is not None and chosen.rank not in (FOLDERS, PACKED, ANNOTATIONS):
        raise UsageError(
            f"--depth is for folders of classes, not for {name}",
            hint="leave it out; or, if folders are the classes: --format class-tree",
        )
    if read.image_root is not None and chosen.rank not in (ANNOTATIONS, TABLE):
        raise UsageError(f"--image-root is for lists, tables and annotations, not for {name}")


def _merge(parts: Sequence[_Part], *, keep_apart: bool) -> Rows:
    """Return one data set: classes of the same name are one, unless kept apart or only numbers."""
    root = Path(os.path.commonpath([str(part.rows.root.resolve()) for part in parts]))
    names = [part.source.resolve().name for part in parts]
    if len(set(names)) < len(names):  # a/images and b/images
        common = os.path.commonpath([str(part.source.resolve()) for part in parts])
        names = [part.source.resolve().relative_to(common).as_posix() for part in parts]
    numbered = any(map(_is_numbered, parts))
    splits = [] if keep_apart else _splits_by_names(parts, names)
    if numbered and "" in splits:  # a number of that source means something else
        splits = []
    apart = keep_apart or (numbered and not splits)
    merged = Rows(root)
    for origin, (name, part) in enumerate(zip(names, parts, strict=True)):
        rows, prefix = part.rows, os.path.relpath(part.rows.root.resolve(), root)
        own = {label: _name_in(rows, label, name if apart else "") for label in set(rows.labels)}
        for number in range(len(rows)):
            path, label = join(prefix, rows.paths[number]), own[rows.labels[number]]
            merged.add_row(rows, number, path=path, label=label, origin=origin)
        merged.readings += [f"{name}: {line}" for line in rows.readings]
        merged.label_files += [f"{name}/{file}" for file in rows.label_files]
        merged.unused |= {f"{name}/{file}": why for file, why in rows.unused.items()}
        merged.units |= rows.units
    how = "kept apart by source" if apart else "one class where the sources have the same name (--keep-apart: two)"
    merged.readings.append(f"classes: {how}")
    if splits:
        merged.splits = [splits[origin] for origin in merged.origins]
        shown = ", ".join(f"{name} = {split or 'train'}" for name, split in zip(names, splits, strict=True))
        merged.readings.append(f"splits by the names of the sources: {shown}")
    return merged


def _splits_by_names(parts: Sequence[_Part], names: Sequence[str]) -> list[str]:
    """Return the split of each source, where sources without splits are called train and val or the like; else []."""
    splits = [
        next((split for word in reversed(name.split("/")) if (split := split_of_folder(word))), "")
        if part.source.is_dir()
        else split_of_file(name)
        for part, name in zip(parts, names, strict=True)
    ]
    known = set(splits) - {""}
    are_split = any(set(part.rows.splits) - {"", "train"} for part in parts)
    return [] if len(known) < 2 or "train" not in known or are_split else splits


def _name_in(rows: Rows, label: str, source: str) -> str:
    """Return what a class is called among those of several sources: by its name, as a number is one of its source."""
    if is_distractor(label):
        return label
    return f"{source}/{rows.shown(label)}" if source else rows.shown(label)


def _is_numbered(part: _Part) -> bool:
    """Return whether its classes are numbers of a data set, which mean something else in another one."""
    shown = {part.rows.shown(label) for label in set(part.rows.labels)}
    return part.format.rank == DATASET or all(natural(label)[0] == 0 for label in shown)
