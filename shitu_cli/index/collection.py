"""One Milvus collection that holds an index: its columns, its search parameters, its manifest."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shitu_cli.errors import DataError, UsageError
from shitu_cli.index.store import FeatureTable, IndexManifest, Item, Match, plain_text, unit_vectors
from shitu_cli.index.tune import NEIGHBOURS, cheapest, probe_rows, probes_like, true_neighbours
from shitu_cli.reporting import Reporter

if TYPE_CHECKING:
    from pymilvus import MilvusClient

KINDS = {"flat": "FLAT", "hnsw": "HNSW", "ivf": "IVF_FLAT"}
MANIFEST, ALIAS = "shitu.manifest", "shitu.alias"  # properties that tell our collections from others
TEXT_BYTES = 65_535  # Milvus's limit for a text
REQUEST_BYTES = 8 << 20  # well below the 64 MB that a server takes at once
IDS = 1000  # in one request
NAMES = 1000  # paths, labels or ids in one filter
PAGE = 16_384  # Milvus's limit for one answer
QUERIES = 1024  # per request
EFFORT = {"hnsw": "ef", "ivf": "nprobe"}  # what an approximate kind is tuned by
LEAST_LISTS = 128  # Milvus's default; the embedded edition knows no other number


class VectorCollection:
    """The collection `name` of a server. What its client raises goes through."""

    def __init__(self, client: MilvusClient, name: str, manifest: IndexManifest) -> None:
        self.client, self.name, self.manifest = client, name, manifest

    @classmethod
    def create(cls, client: MilvusClient, name: str, alias: str, manifest: IndexManifest) -> VectorCollection:
        """A new, empty one that is to serve `alias`."""
        from pymilvus import DataType

        schema = client.create_schema(auto_id=True, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=manifest.size)
        schema.add_field("label", DataType.VARCHAR, max_length=TEXT_BYTES)
        schema.add_field("path", DataType.VARCHAR, max_length=TEXT_BYTES)
        properties = {MANIFEST: json.dumps(asdict(manifest)), ALIAS: alias}
        # Strong: who searches after a change sees it.
        client.create_collection(name, schema=schema, properties=properties, consistency_level="Strong")
        return cls(client, name, manifest)

    @classmethod
    def behind(cls, client: MilvusClient, alias: str, place: str) -> VectorCollection | None:
        """The one that `alias` names now; UsageError when that is not one of ours."""
        if not client.has_collection(alias):
            return None
        described = client.describe_collection(alias)
        manifest = described.get("properties", {}).get(MANIFEST)
        if manifest is None:
            raise UsageError(
                f"{place} is there already, but not from `shitu index build`; it stays as it is",
                hint="--collection another_name",
            )
        try:
            found = cls(client, described["collection_name"], IndexManifest(**json.loads(manifest)))
        except (ValueError, TypeError) as error:
            raise DataError(f"{place}: its manifest is damaged: {error}", hint="--collection another_name") from None
        client.load_collection(found.name)  # a file that was opened anew has loaded nothing
        return found

    def is_behind(self, alias: str) -> bool:
        """Whether the alias leads here now."""
        return bool(self.client.describe_collection(alias)["collection_name"] == self.name)

    def insert(self, table: FeatureTable, reporter: Reporter) -> np.ndarray:
        """Store all rows; the ids int64 [N] that the server gave them, in order."""
        features, labels, paths = table
        step = max(1, REQUEST_BYTES // (4 * features.shape[1]))
        ids: list[int] = []
        with reporter.progress("storing", len(features), "vectors") as bar:
            for start in range(0, len(features), step):
                block = unit_vectors(features[start : start + step], start)
                named = zip(block, labels[start : start + step], paths[start : start + step], strict=True)
                rows = [{"vector": v, "label": plain_text(label), "path": plain_text(path)} for v, label, path in named]
                ids += self.client.insert(self.name, rows)["ids"]
                bar.advance(len(block))
        return np.asarray(ids, np.int64)

    def make_ready(self, features: np.ndarray, ids: np.ndarray, text_index: str) -> None:
        """Index what was inserted, load it, and choose the cheapest search that finds the wanted share.

        `text_index` is the kind of index of labels and paths.
        """
        kind, lists = self.manifest.kind, max(LEAST_LISTS, min(int(4 * len(ids) ** 0.5), 65_536))
        self.client.flush(self.name)
        index = self.client.prepare_index_params()
        making = {"hnsw": {"M": 32, "efConstruction": 128}, "ivf": {"nlist": lists}}.get(kind, {})
        index.add_index("vector", index_type=KINDS[kind], metric_type="IP", params=making)
        for column in ("path", "label"):  # to add and remove by them without reading all rows
            index.add_index(column, index_type=text_index)
        self.client.create_index(self.name, index)
        self.client.load_collection(self.name)
        if kind not in EFFORT:
            return
        probes = probes_like(unit_vectors(features[probe_rows(len(ids))]))
        truth = ids[true_neighbours(probes, features)]
        first, limit = (16, 4096) if kind == "hnsw" else (1, lists)
        wanted = self.manifest.wanted_recall
        effort, found = cheapest(lambda effort: self._neighbours(probes, effort), truth, wanted, first, limit)
        self.manifest = replace(self.manifest, search={EFFORT[kind]: effort}, recall=found)
        self.client.alter_collection_properties(self.name, {MANIFEST: json.dumps(asdict(self.manifest))})

    def delete(self, ids: Sequence[int]) -> None:
        for start in range(0, len(ids), IDS):
            self.client.delete(self.name, ids=list(ids[start : start + IDS]))

    def count(self) -> int:
        return int(self.client.query(self.name, filter="", output_fields=["count(*)"])[0]["count(*)"])

    def find(self, paths: Collection[str], labels: Collection[str], ids: Collection[int]) -> list[Item]:
        """Items that have one of the paths, labels or ids, by rising id."""
        wanted: dict[str, list[str] | list[int]] = {
            "path": [plain_text(path) for path in paths],
            "label": [plain_text(label) for label in labels],
            "id": [*ids],
        }
        found: dict[int, Item] = {}
        for column, values in wanted.items():
            for start in range(0, len(values), NAMES):
                some = json.dumps(values[start : start + NAMES], ensure_ascii=False)
                found |= {item.id: item for item in self.items(f"{column} in {some}")}
        return [found[n] for n in sorted(found)]

    def items(self, condition: str = "") -> Iterator[Item]:
        """Items by rising id; `condition` in Milvus's filter language."""
        pages = self.client.query_iterator(
            self.name, batch_size=PAGE, filter=condition, output_fields=["id", "label", "path"]
        )
        try:
            while rows := pages.next():
                yield from (Item(int(row["id"]), row["label"], row["path"]) for row in rows)
        finally:
            pages.close()

    def search(self, vectors: np.ndarray, top: int) -> Iterator[list[Match]]:
        """The best `top` matches of each unit vector [N, D]."""
        for start in range(0, len(vectors), QUERIES):
            for row in self.client.search(
                self.name,
                vectors[start : start + QUERIES],
                limit=top,
                output_fields=["label", "path"],
                search_params=_parameters(self.manifest.search, top),
            ):
                yield [Match(int(h["id"]), h["entity"]["label"], h["entity"]["path"], h["distance"]) for h in row]

    def _neighbours(self, probes: np.ndarray, effort: int) -> np.ndarray:
        """Ids [N, k], filled up with -1."""
        parameters = _parameters({EFFORT[self.manifest.kind]: effort}, NEIGHBOURS)
        found = np.full((len(probes), NEIGHBOURS), -1, np.int64)
        for number, row in enumerate(self.client.search(self.name, probes, limit=NEIGHBOURS, search_params=parameters)):
            found[number, : len(row)] = [hit["id"] for hit in row]
        return found


def drop_others(client: MilvusClient, kept: str, alias: str) -> None:
    """Take away the collection that `kept` replaced behind the alias, and what killed builds left."""
    for name in client.list_collections():
        if name == kept or not name.startswith(f"{alias}_"):
            continue
        if client.describe_collection(name).get("properties", {}).get(ALIAS) == alias:
            client.drop_collection(name)


def _parameters(search: dict[str, int], top: int) -> dict[str, Any]:
    """Milvus refuses an `ef` below the number of answers."""
    return {"metric_type": "IP", "params": {k: max(v, top) if k == "ef" else v for k, v in search.items()}}
