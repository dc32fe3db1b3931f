"""Parquet files with images in a column, as `datasets` of Hugging Face writes them: a row for each image."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from shitu_cli.errors import Command, DataError, UsageError
from shitu_cli.inputs import parse_json
from shitu_cli.preparation.formats.archive_labels import KEYS, ArchiveShard
from shitu_cli.preparation.formats.base import Rows, whole_label
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.values import label_text, object_of
from shitu_cli.preparation.problems import Problems
from shitu_cli.stores.parquet import WHAT, opened
from shitu_cli.stores.parquet_pages import look_into


def read_parquet(shard: ArchiveShard, source: Source, rows: Rows, problems: Problems) -> None:
    """Add the images of a Parquet file.

    The class is the column that --columns names, else the only ClassLabel of Hugging Face's metadata, else the only
    column that is called like one. Raises UsageError if several columns may be meant.
    """
    members: dict[str, dict[int, str]] = {}
    for name in shard.archive.index.names():
        column, _, file = name.rpartition("/")
        members.setdefault(column, {})[int(file.partition(".")[0])] = name
    options = source.options.columns
    image = _one("image", options.get("image"), sorted(members), ("image", "img", "picture", "photo"), shard)
    with opened(shard.archive.file) as table:
        schema = table.schema_arrow
        features = _features(schema)
        usable = [f.name for f in schema if f.name != image.partition(".")[0] and _is_scalar(f.type)]
        classes = [name for name in usable if object_of(features.get(name)).get("_type") == "ClassLabel"]
        label = _one(
            "label", options.get("label"), classes if "label" not in options and classes else usable, KEYS, shard
        )
        number = [table.schema.column(n).path for n in range(len(table.schema))].index(label)
    look_into(shard.archive.file, [number], what=WHAT)
    with opened(shard.archive.file, texts=[label]) as table:
        values = _values_of(table.read(columns=[label]).column(0))
    names = [label_text(name) for name in object_of(features.get(label)).get("names") or ()]
    named = functools.cache(lambda value: _named(value, names))
    for row, value in enumerate(values):
        member = members[image].get(row)
        place = f"{shard.location(image)}/{row}"
        if member is None:
            problems.add("missing", place, f"no bytes in the column {image}")
        elif value is None or value == -1:
            problems.add("unlabelled", place)
        else:
            rows.add(shard.location(member), named(value), shard.split)
    rows.readings.append(f"{shard.name}: image = column {image}, class = column {label}")


def _values_of(column: Any) -> list[Any]:
    """Return the values of a column; texts that are equal are one object, which may stand in a million rows."""
    values: list[Any] = []
    for chunk in column.chunks:
        if hasattr(chunk, "dictionary"):
            names = chunk.dictionary.to_pylist()
            values += [None if number is None else names[number] for number in chunk.indices.to_pylist()]
        else:
            values += chunk.to_pylist()
    return values


def _named(value: Any, names: Sequence[str]) -> str:
    """Return the name of a class: by its number where the metadata has the names."""
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return whole_label(label_text(value).strip())


def _features(schema: Any) -> dict[str, Any]:
    """Return the features of Hugging Face's metadata by column; {} without any."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return {}
    try:
        value = parse_json(text.decode("utf-8", "replace"), "metadata")
    except DataError:
        return {}
    return object_of(object_of(object_of(value).get("info")).get("features"))


def _is_scalar(kind: Any) -> bool:
    import pyarrow.types as types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind))


def _one(role: str, named: str | None, columns: Sequence[str], usual: Sequence[str], shard: ArchiveShard) -> str:
    """Return the column of a role: the one that the user names, the only one, or the only one with a usual name."""
    if named is not None and named in columns:
        return named
    called = [name for name in columns if name.lower() in usual]
    if named is None and len(columns) == 1:
        return columns[0]
    if named is None and len(called) == 1:
        return called[0]
    if not columns:
        what = "no column of encoded images" if role == "image" else "no column of numbers or texts for the class"
        raise DataError(f"{shard.name}: {what}")
    what = f"there is no column {named}" if named is not None else f"which column is the {role}?"
    raise UsageError(
        f"{shard.name}: {what} It has {', '.join(columns[:20])}",
        hint=[Command("prepare", "--columns", f"{role}={columns[0]}"), " or another one"],
    )
