"""`index`: open the vector index of a gallery from a program."""

from __future__ import annotations

import os
from pathlib import Path

from shitu_cli.index import MILVUS, open_store
from shitu_cli.index.store import Store


def open_index(place: str | os.PathLike[str] = "index", *, collection: str = "shitu") -> Store:
    """Return the index at `place`: a directory, or `milvus:http://host:19530`, or a local file `milvus:gallery.db`.

    Nothing is read or created yet: `build`, `add`, `remove`, `search`, `items` and `manifest` do that. `collection` is
    its name in Milvus. Raises UsageError for an address of any other form.
    """
    text = os.fspath(place)
    # Made absolute, as the current directory may have changed by the time the index is read.
    return open_store(Path(os.path.abspath(text)), text if text.startswith(MILVUS) else None, collection)
