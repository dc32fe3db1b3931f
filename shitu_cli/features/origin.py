"""A note next to a file of features: which model computed it, and which table of paths and labels belongs to it.

With it, an index of the features refuses features of another model. It is written before the files are replaced and
also lists earlier generations: at every moment, the files on the disk are a generation that it lists or do not match.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shitu_cli.files import atomic_write_json, remove_leftovers
from shitu_cli.inputs import read_note
from shitu_cli.stores import address_of, join, split_location

KEPT = 8  # generations in a note
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Origin:
    """The fingerprint of a model, and the SHA-256 of the file that it made and of its table ("" if it has none).

    `folder` is where relative paths of images start, from the file's own folder; None in notes of older versions.
    """

    model: str
    sha256: str
    table_sha256: str = ""
    folder: str | None = None


def note_origin(features: Path, origin: Origin) -> None:
    """Write `<features>.model.json`: this origin, then those that were noted before."""
    remove_leftovers(_note(features))
    earlier = [asdict(former) for former in noted_origins(features) if former.sha256 != origin.sha256]
    atomic_write_json(_note(features), {**asdict(origin), "earlier": earlier[: KEPT - 1]})


def noted_origins(features: Path) -> list[Origin]:
    """Return the origins that the note names, newest first; none if no note can be read."""
    note = read_note(_note(features))  # it only ever adds to what the file itself says
    earlier = note.get("earlier", [])
    return [
        Origin(item["model"], item["sha256"], item.get("table_sha256", ""), item.get("folder"))
        for item in [note, *(earlier if isinstance(earlier, list) else [])]
        if isinstance(item, dict) and _is_origin(item)
    ]


def from_here(paths: Sequence[str], folder: str | None, file: Path) -> Sequence[str]:
    """Return paths of images, written beside features in `file`, so that they lead there from the current directory.

    Relative ones start at `folder`, which is itself relative to that of the file. They stay as they are if it is not
    known, or if the images are not there either, because the file was moved without them.
    """
    first = next((path for path in paths if path and not os.path.isabs(path) and address_of(path) is None), None)
    if folder is None or first is None:
        return paths
    root = os.path.normpath(file.parent / folder)
    place = split_location(os.path.join(root, first))[0]
    is_there = any(map(os.path.lexists, (place, place.rpartition("#")[0])))  # a box may follow the name
    if not is_there or os.path.abspath(root) == os.getcwd():
        return paths
    return [join(root, path) if path else "" for path in paths]


def _is_origin(item: dict[str, Any]) -> bool:
    values = [item.get("model"), item.get("sha256"), item.get("table_sha256", "")]
    is_text = all(isinstance(value, str) for value in values) and isinstance(item.get("folder"), str | None)
    return is_text and bool(_DIGEST.fullmatch(str(values[1])))


def _note(features: Path) -> Path:
    return features.with_name(f"{features.name}.model.json")
