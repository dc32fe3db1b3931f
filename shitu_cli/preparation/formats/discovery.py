"""Finding the annotation files of a source, and telling by their first bytes what they are."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shitu_cli.inputs import MIB
from shitu_cli.preparation.formats.source import Source, fold, without_suffix

JSON_LIMIT = 2048 * MIB  # COCO's own file of 118,000 images has 450 MiB
PROBED_FILES = 40  # files of a kind that are looked into to recognise a format
PROBED_BYTES = 1 << 16
_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trainval", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
    **dict.fromkeys(("query", "queries", "probe"), "query"),
    "gallery": "gallery",
}


def split_of(path: str) -> str:
    """Return the split that a path names: the word nearest to its end, "" for none; `train2017` is train."""
    for part in reversed(path.split("/")):
        words = {_SPLIT_WORDS[word] for word in re.findall(r"[a-z]+", part.lower()) if word in _SPLIT_WORDS}
        if len(words) == 1:
            return words.pop()
    return ""


def annotation_files(source: Source, *suffixes: str) -> list[str]:
    """Return the files of a source with these suffixes, relative to its base: the source itself, if it is a file."""
    if source.path.is_file():
        return [source.path.name] if source.path.suffix.lower() in suffixes else []
    return [path for path in source.tree.files if os.path.splitext(path)[1].lower() in suffixes]


def spread(items: Sequence[Any], count: int = PROBED_FILES) -> list[Any]:
    """Return at most `count` of the items, evenly spread."""
    step = max(1, -(-len(items) // count))
    return list(items[::step])


def head_and_tail(path: Path) -> bytes:
    """Return the first and the last bytes of a file, empty where it cannot be read: enough to tell what it is."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            head = file.read(PROBED_BYTES)
            size = os.fstat(file.fileno()).st_size
            if size > 2 * PROBED_BYTES:
                file.seek(size - PROBED_BYTES)
            return head + b"\n" + file.read(PROBED_BYTES)
    except OSError:
        return b""


def unread_sidecars(source: Source) -> dict[str, str]:
    """Return the first of the texts, JSON and XML that half of the images have beside them, with a word about it.

    They may hold the labels in a way that is not known here: where folders are read instead, it has to be said.
    """
    found = {}
    for suffix in (".txt", ".json", ".xml"):
        names = (os.path.splitext(path.rpartition("/")[2])[0] for path in annotation_files(source, suffix))
        count = sum(fold(without_suffix(name)) in source.tree.stems for name in names)
        if count and count * 2 >= len(source.tree.images):
            files = annotation_files(source, suffix)
            first = next(path for path in files if _stem(os.path.splitext(path)[0]) in source.tree.stems)
            text = " ".join(head_and_tail(source.base / first)[:200].decode("utf-8", "replace").split())
            found[first] = (
                f"one of {count:,} {suffix} files beside images, not of a format that is known: {text[:40]!r}"
            )
    return found


def _stem(path: str) -> str:
    return fold(without_suffix(posixpath.basename(path)))
