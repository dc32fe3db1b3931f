"""Find the annotation files of a source, and files that may hold labels but are not read."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from shitu_cli.inputs import MIB
from shitu_cli.preparation.formats.source import Source, stem_of

JSON_LIMIT = 2048 * MIB  # COCO's own file of 118,000 images has 450 MiB
PROBED_FILES = 40  # files of one image each that are looked into to recognise a format
PROBED_TABLES = 400  # files of many images
Recogniser = Callable[[str, bytes], bool]  # by the name of a file and its first and last bytes


def annotation_files(source: Source, *suffixes: str) -> list[str]:
    """Return the files of a source with these suffixes, relative to its base: the source itself, if it is a file."""
    if source.path.is_file():
        return [source.path.name] if source.path.suffix.lower() in suffixes else []
    return [path for path in source.tree.files if os.path.splitext(path)[1].lower() in suffixes]


def files_with(source: Source, files: Sequence[str], is_one: Recogniser) -> list[str]:
    """Return those of the files that `is_one` recognises; [] if it recognises none of a sample."""
    if not any(is_one(file, source.head(file)) for file in spread(files, PROBED_TABLES)):
        return []
    return [file for file in files if is_one(file, source.head(file))]


def spread(items: Sequence[Any], count: int = PROBED_FILES) -> list[Any]:
    """Return at most `count` of the items, evenly spread."""
    step = max(1, -(-len(items) // count))
    return list(items[::step])


def unread_sidecars(source: Source) -> dict[str, str]:
    """Return an example of the texts, JSON and XML that half of the images have beside them, with a description.

    They may hold the labels in an unknown format, which the user has to hear of if folders are read instead.
    """
    unread = {}
    for suffix in (".txt", ".json", ".xml"):
        files = annotation_files(source, suffix)
        sidecars = [path for path in files if stem_of(os.path.splitext(path)[0]) in source.tree.stems]
        if sidecars and len(sidecars) * 2 >= len(source.tree.images):
            beside = f"one of {len(sidecars):,} {suffix} files beside images"
            filled = next((file for file in spread(sidecars) if source.head(file).strip()), None)
            if filled is None:
                unread[sidecars[0]] = f"{beside}, which are empty: nothing is annotated in them"
                continue
            text = " ".join(source.head(filled)[:200].decode("utf-8", "replace").split())
            unread[filled] = f"{beside}, in a format that is not known here: {text[:40]!r}"
    return unread
