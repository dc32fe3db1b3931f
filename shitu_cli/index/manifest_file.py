"""`manifest.json` of an index directory: what kind of index it is, and which files belong together."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shitu_cli.errors import DataError
from shitu_cli.files import atomic_write_json
from shitu_cli.index.faiss_file import MAX_EFFORT
from shitu_cli.index.measured import is_block
from shitu_cli.index.store import AGAIN, KINDS, MAX_ID, MAX_SIZE, IndexManifest
from shitu_cli.inputs import is_input, is_real, is_whole, read_json_object

FORMAT = 1


@dataclass(frozen=True)
class Tie:
    """Ties the files of a directory together: the SHA-256 of its items, and the generation that its vectors end with.

    Both are "" in indexes of older versions, which did not store them.
    """

    items: str = ""
    generation: str = ""


def write_manifest(file: Path, manifest: IndexManifest, tie: Tie) -> None:
    """Write the file that `read_manifest` reads."""
    values = {"format": FORMAT, **asdict(manifest), "items_sha256": tie.items, "generation": tie.generation}
    atomic_write_json(file, values)


def read_manifest(file: Path) -> tuple[IndexManifest, Tie] | None:
    """Return the manifest, None if there is no such file (an index of another program).

    Raises DataError that names every invalid or missing value.
    """
    if not is_input(file):
        return None
    values = read_json_object(file, hint=AGAIN)
    return checked_manifest(values, str(file)), Tie(values.get("items_sha256", ""), values.get("generation", ""))


def checked_manifest(values: dict[str, Any], file: str) -> IndexManifest:
    """Return what the values of a manifest describe; DataError names all that is wrong in them."""
    if values.get("format") != FORMAT:
        raise DataError(f"{file}: written by another version", hint=AGAIN)
    problems = [
        f"{file}: {key}: {values[key]!r:.80}" if key in values else f"{file}: {key} is missing"
        for key, is_valid in _CHECKS.items()
        if (not is_valid(values[key]) if key in values else key in _REQUIRED)
    ]
    if problems:
        raise DataError(f"{file} is damaged", details=problems, hint=AGAIN)
    return IndexManifest(**{key: values[key] for key in IndexManifest.__dataclass_fields__ if key in values})


def _is_share(value: Any) -> bool:
    return is_real(value, 0, 1)


def _is_search(value: Any) -> bool:
    """Return whether these are search parameters that faiss or Milvus accept."""
    return isinstance(value, dict) and all(
        key in ("efSearch", "nprobe", "ef") and is_whole(effort, 1, MAX_EFFORT) for key, effort in value.items()
    )


def _is_digest(value: Any) -> bool:
    """Return whether this is a SHA-256 in hexadecimal, or "" of an older version."""
    return isinstance(value, str) and re.fullmatch("([0-9a-f]{64})?", value) is not None


_REQUIRED = ("kind", "size", "model", "count", "next_id")
_CHECKS = {
    "kind": lambda value: value in KINDS if isinstance(value, str) else False,
    "size": lambda value: is_whole(value, 1, MAX_SIZE),
    "model": lambda value: isinstance(value, str),
    "count": lambda value: is_whole(value, 1, MAX_ID + 1),
    "next_id": lambda value: value is None or is_whole(value, 0, MAX_ID + 1),  # None: a server numbers the items
    "search": _is_search,
    "recall": lambda value: value is None or _is_share(value),
    "model_path": lambda value: isinstance(value, str),
    "wanted_recall": _is_share,
    "measured": is_block,
    "items_sha256": _is_digest,
    "generation": _is_digest,
}
