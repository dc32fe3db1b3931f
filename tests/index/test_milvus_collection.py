"""A collection of a Milvus server is one of ours only if its manifest says so; the server itself may be anybody's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shitu_cli.errors import DataError, UsageError
from shitu_cli.index.milvus_collection import MANIFEST, VectorCollection

VALID = {"kind": "flat", "size": 24, "model": "m", "count": 3, "next_id": None, "search": {}, "recall": None}


class Server:
    """Answers what a client asks of a server with one collection."""

    def __init__(self, properties: dict[str, Any]) -> None:
        self.properties = properties
        self.loaded: list[str] = []

    def has_collection(self, name: str) -> bool:
        return name == "shitu"

    def describe_collection(self, name: str) -> dict[str, Any]:
        return {"collection_name": f"{name}_1", "properties": self.properties}

    def load_collection(self, name: str) -> None:
        self.loaded.append(name)


def test_a_manifest_is_read_value_by_value() -> None:
    server = Server({MANIFEST: json.dumps(VALID)})
    collection = VectorCollection.behind(server, "shitu", "milvus:host:1")  # type: ignore[arg-type]
    assert collection is not None and (collection.name, server.loaded) == ("shitu_1", ["shitu_1"])
    assert (collection.manifest.size, collection.manifest.next_id) == (24, None)
    assert VectorCollection.behind(server, "other", "milvus:host:1") is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        ("{", "not valid JSON"),
        ("[1]", "expected a JSON object, got list"),
        (json.dumps(VALID | {"kind": "tree"}), "manifest: kind: 'tree'"),
        (json.dumps(VALID | {"size": 10**9}), "manifest: size: 1000000000"),
        (json.dumps(VALID | {"count": -1}), "manifest: count: -1"),
        (json.dumps(VALID | {"search": {"rm": 1}}), "manifest: search: {'rm': 1}"),
        (json.dumps(VALID | {"search": {"ef": 10**9}}), "manifest: search"),
        (json.dumps({"kind": "flat"}), "manifest: size is missing"),
        ("[" * 100_000, "nested more than"),
    ],
)
def test_a_damaged_manifest_is_refused(manifest: str, says: str) -> None:
    server = Server({MANIFEST: manifest})
    with pytest.raises(DataError, match="milvus:host:1: its manifest is damaged") as caught:
        VectorCollection.behind(server, "shitu", "milvus:host:1")  # type: ignore[arg-type]
    assert says in "\n".join([caught.value.message, *caught.value.details])
    assert server.loaded == []


def test_a_collection_of_somebody_else_is_left_alone() -> None:
    with pytest.raises(UsageError, match="did not create it"):
        VectorCollection.behind(Server({}), "shitu", "milvus:host:1")  # type: ignore[arg-type]
