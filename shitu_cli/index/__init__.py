"""The vector index of a gallery: a directory beside the workspace's other files, or a collection of a Milvus server."""

from __future__ import annotations

import os
import re
from pathlib import Path

from shitu_cli.errors import UsageError
from shitu_cli.index.store import Store
from shitu_cli.inputs import StrPath

MILVUS = "milvus:"


def open_index(place: StrPath = "index", *, collection: str = "shitu") -> Store:
    """Return the index at `place`: a directory, or `milvus:http://host:19530`, or a local file `milvus:gallery.db`.

    Nothing is read or created yet: `build`, `add`, `remove`, `search`, `items` and `manifest` do that. `collection` is
    its name in Milvus. Raises UsageError for an address of any other form.
    """
    text = os.fspath(place)
    if text.startswith(MILVUS):
        return open_address(text, collection)
    from shitu_cli.index.files import FileStore

    return FileStore(Path(os.path.abspath(text)))  # the current directory may be another one when the index is read


def open_address(address: str, collection: str = "shitu") -> Store:
    """Return the index at an address, as `open_index` does; anything else is a UsageError too."""
    if not address.startswith(MILVUS) or address == MILVUS:
        raise UsageError(f"--store {address}: expected milvus:http://host:19530 or milvus:gallery.db")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,199}", collection):
        raise UsageError(f"--collection {collection}: expected letters, digits and _, a letter first")
    from shitu_cli.index.milvus import MilvusStore

    return MilvusStore(address.removeprefix(MILVUS), collection)


def is_index(folder: Path) -> bool:
    """Return whether a directory holds an index of this program."""
    return (folder / "manifest.json").is_file() and (folder / "vector.index").is_file()
