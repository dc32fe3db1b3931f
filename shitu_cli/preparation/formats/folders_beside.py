"""Lists and tables beside folders of classes: whether they say the same, and what only the folders label."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import chain

from shitu_cli.errors import UsageError
from shitu_cli.preparation.formats.base import Rows
from shitu_cli.preparation.formats.boxes import plain_name
from shitu_cli.preparation.formats.column_names import LABEL_NAMES, name_set
from shitu_cli.preparation.formats.locate import LocatedImages
from shitu_cli.preparation.formats.source import Source, stem_of
from shitu_cli.preparation.formats.splits import split_words
from shitu_cli.preparation.formats.table_lines import Lines
from shitu_cli.preparation.problems import Problems
from shitu_cli.reporting import short_list

# Names of columns that are the class without doubt.
_KNOWN = frozenset(chain.from_iterable(LABEL_NAMES)) | name_set(
    "species breed variety individual individualid identity sku skuid product productid diagnosis dx disease"
)


def refuse_other_classes(source: Source, parts: Sequence[Lines], located: Sequence[LocatedImages]) -> None:
    """Refuse a table whose label has an unknown name, where folders of names sort the images in another way.

    A table of photographers beside folders of products must not make photographers of them.
    """
    if is_decided(source):
        return
    tables: dict[str, list[tuple[Lines, LocatedImages]]] = defaultdict(list)
    for lines, place in zip(parts, located, strict=True):
        if lines.sheet.header is not None and lines.columns.label is not None:
            tables[lines.columns.names[lines.columns.label]].append((lines, place))
    for column, several in tables.items():  # each folder may have a table of its own
        if plain_name(column) in _KNOWN:
            continue
        by_folder: dict[str, set[str]] = defaultdict(set)
        by_label: dict[str, set[str]] = defaultdict(set)
        for lines, place in several:
            for path, value in zip(place.paths, lines.labels, strict=True):
                if path is not None:
                    folder = os.path.dirname(os.path.join(place.root, path))
                    by_folder[folder].add(value)
                    by_label[value].add(folder)
        mixed = any(len(values) > 1 for values in by_folder.values())
        rows = sum(len(lines.labels) for lines, _ in several)
        apart = any(len(folders) > 1 for folders in by_label.values()) or len(by_label) == rows
        if mixed and apart and are_named(by_folder):
            lines, place = several[0]
            image = lines.columns.names[lines.columns.image]
            value, folder = lines.labels[0], (place.paths[0] or "").rpartition("/")[0] or place.root.name
            raise UsageError(
                f"{lines.sheet.path}: is the class its column {column}, or the folder of each image?",
                details=[f"{lines.where(0)}: {value}, in the folder {folder}"],
                hint=f"--columns image={image},label={column} or --format class-tree",
            )


def are_named(folders: Iterable[str]) -> bool:
    """Return whether folders have names of their own, unlike batch_1 and batch_2 or 0a and 0b."""
    words = (split_words(folder.rpartition("/")[2])[1] for folder in folders)
    return len({tuple(word for word in several if len(word) > 2 or not word.isascii()) for several in words} - {()}) > 1


def is_decided(source: Source) -> bool:
    """Return whether the user says what to read: a file, a format or columns."""
    return not source.path.is_dir() or bool(source.options.columns) or source.format_named


def refuse_few(source: Source, rows: Rows, name: str) -> None:
    """Refuse lists that label a smaller part of the images, where the others are in folders of different names.

    A table of a few corrected labels must not make everything else vanish. `name` is that of the format.
    """
    below = os.path.relpath(rows.root, source.base)
    if is_decided(source) or below.startswith(os.pardir) or len(source.tree.images) <= 2 * len(rows):
        return
    listed = {os.path.normpath(os.path.join(below, path)).replace(os.sep, "/") for path in rows.paths}
    rest = source.tree.image_set - listed
    folders = {path.rpartition("/")[0] for path in rest} - _folders_of_copies(listed, rest)
    rest = frozenset(path for path in rest if path.rpartition("/")[0] in folders)
    are_classes = len({folder.rpartition("/")[2] for folder in folders} & set(rows.labels)) > 1
    if len(rest) <= len(listed) or not (are_classes or are_named(folders)):
        return
    file = rows.files[0]
    raise UsageError(
        f"{file} labels {len(listed):,} of {len(source.tree.images):,} images: are folders the classes of the others?",
        details=[f"{min(rest)} is in no list"],
        hint=f"--format class-tree if the folders are the classes; --format {name} to leave the others out",
    )


def _folders_of_copies(listed: Collection[str], rest: Iterable[str]) -> set[str]:
    """Return the folders in which all images are called like listed ones: depth maps, masks, thumbnails of them."""
    names = {stem_of(path) for path in listed}
    inside: dict[str, set[str]] = defaultdict(set)
    for path in rest:
        inside[path.rpartition("/")[0]].add(stem_of(path))
    # Where 1.jpg is in several listed folders, other folders of such numbers are no copies of these.
    return {folder for folder, stems in inside.items() if stems <= names} if len(names) == len(listed) else set()


def with_train_folders(source: Source, rows: Rows) -> Rows:
    """Return the rows of lists that only evaluate, with the images of train/<class>/ where there are such folders.

    Raises UsageError if the lists call the classes otherwise than the folders.
    """
    if not source.path.is_dir() or not rows.splits or not set(rows.splits) <= {"val", "test"}:
        return rows
    from shitu_cli.preparation.formats.tree import class_rows

    below = os.path.relpath(rows.root, source.base).replace(os.sep, "/")
    folders, _ = class_rows(source, Problems())
    trained = [number for number, split in enumerate(folders.splits) if split == "train"]
    if not trained or below.startswith(".."):
        return rows
    names = {folders.labels[number] for number in trained}
    if others := {rows.shown(label) for label in set(rows.labels)} - names:
        raise UsageError(
            f"{rows.files[0]}: its classes, such as {short_list(sorted(others))}, are not those of the folders of "
            f"training images, such as {short_list(sorted(names))}",
            details=[f"{rows.where(0)}: {rows.paths[0]}", folders.paths[trained[0]]],
            hint="write the names of the folders in the list; or name the list alone, to read nothing but it",
        )
    rows.labels = [rows.shown(label) for label in rows.labels]
    rows.root, rows.display = source.base, {}
    rows.paths = [os.path.normpath(f"{below}/{path}").replace(os.sep, "/") for path in rows.paths]
    for number in trained:
        rows.add_row(folders, number, path=folders.paths[number], label=folders.labels[number], origin=0)
    example = trained[0]
    rows.readings.append(f"folders to train on: the class of {folders.paths[example]} is {folders.labels[example]}")
    return rows
