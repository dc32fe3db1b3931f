"""The Milvus collection of an index: its columns, its search parameters, its manifest."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shitu_cli.errors import DataError, UsageError
from shitu_cli.index.manifest_file import FORMAT, checked_manifest
from shitu_cli.index.store import FeatureTable, IndexManifest, Item, Match, plain_text, unit_vectors
from shitu_cli.index.tune import NEIGHBOURS, cheapest, probe_rows, probes_like, true_neighbours
from shitu_cli.inputs import parse_json
from shitu_cli.reporting import Reporter

if TYPE_CHECKING:
    from pymilvus import MilvusClient

KINDS = {"flat": "FLAT", "hnsw": "HNSW", "ivf": "IVF_FLAT"}
MANIFEST, ALIAS = "shitu.manifest", "shitu.alias"  # properties that mark a collection as ours
TEXT_BYTES = 65_535  # Milvus's limit for a text
REQUEST_BYTES = 8 << 20  # well below the 64 MB that a server takes at once
IDS = 1000  # in one request
VALUES = 1000  # paths, labels or ids in one filter
PAGE = 16_384  # Milvus's limit for one answer
QUERIES = 1024  # per request
EFFORT = {"hnsw": "ef", "ivf": "nprobe"}  # what an approximate kind is tuned by
LEAST_LISTS = 128  # Milvus's default; the embedded edition supports no other number


class VectorCollection:
    """The collection `name` of a server; errors of the client pass through unchanged."""

    def __init__(self, client: MilvusClient, name: str, manifest: IndexManifest) -> None:
        self.client, self.name, self.manifest = client, name, manifest

    @classmethod
    def create(cls, client: MilvusClient, name: str, alias: str, manifest: IndexManifest) -> VectorCollection:
        """Create an empty collection that will serve `alias`; the alias does not point to it yet."""
        from pymilvus import DataType

        schema = client.create_schema(auto_id=True, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=manifest.size)
        schema.add_field("label", DataType.VARCHAR, max_length=TEXT_BYTES)
        schema.add_field("path", DataType.VARCHAR, max_length=TEXT_BYTES)
        properties = {MANIFEST: json.dumps(asdict(manifest)), ALIAS: alias}
        # Strong consistency: a search that follows a change sees it.
        client.create_collection(name, schema=schema, properties=properties, consistency_level="Strong")
        return cls(client, name, manifest)

    @classmethod
    def behind(cls, client: MilvusClient, alias: str, place: str) -> VectorCollection | None:
        """Return the collection that `alias` points to, None if there is none; UsageError if it is not one of ours."""
        if not client.has_collection(alias):
            return None
        description = client.describe_collection(alias)
        manifest = description.get("properties", {}).get(MANIFEST)
        if manifest is None:
            raise UsageError(
                f"{place} already exists, but `shitu index build` did not create it; it was left unchanged",
                hint="--collection another_name",
            )
        try:
            values = parse_json(manifest, "manifest")
            if not isinstance(values, dict):
                raise DataError(f"expected a JSON object, got {type(values).__name__}")
            collection = cls(
                client, description["collection_name"], checked_manifest({"format": FORMAT, **values}, "manifest")
            )
        except DataError as error:
            raise DataError(
                f"{place}: its manifest is damaged: {error.message}",
                details=error.details,
                hint="--collection another_name",
            ) from None
        client.load_collection(collection.name)  # a newly opened file has loaded nothing
        return collection

    def is_behind(self, alias: str) -> bool:
        """Return whether the alias points to this collection now."""
        return bool(self.client.describe_collection(alias)["collection_name"] == self.name)

    def insert(self, table: FeatureTable, reporter: Reporter) -> np.ndarray:
        """Store all rows; return the ids int64 [N] that the server assigned, in order."""
        features, labels, paths = table
        step = max(1, REQUEST_BYTES // (4 * features.shape[1]))
        ids: list[int] = []
        with reporter.progress("storing", len(features), "vectors") as bar:
            for start in range(0, len(features), step):
                block = unit_vectors(features[start : start + step], range(start, len(features)))
                entries = zip(block, labels[start : start + step], paths[start : start + step], strict=True)
                rows = [
                    {"vector": v, "label": plain_text(label), "path": plain_text(path)} for v, label, path in entries
                ]
                ids += self.client.insert(self.name, rows)["ids"]
                bar.advance(len(block))
        return np.asarray(ids, np.int64)

    def make_ready(self, features: np.ndarray, ids: np.ndarray, text_index: str) -> None:
        """Index what was inserted, load it, and choose the cheapest search that reaches the target recall.

        `text_index` is the kind of index of labels and paths.
        """
        kind, lists = self.manifest.kind, max(LEAST_LISTS, min(int(4 * len(ids) ** 0.5), 65_536))
        self.client.flush(self.name)
        index = self.client.prepare_index_params()
        build_parameters = {"hnsw": {"M": 32, "efConstruction": 128}, "ivf": {"nlist": lists}}.get(kind, {})
        index.add_index("vector", index_type=KINDS[kind], metric_type="IP", params=build_parameters)
        for column in ("path", "label"):  # so that adding and removing by them does not read all rows
            index.add_index(column, index_type=text_index)
        self.client.create_index(self.name, index)
        self.client.load_collection(self.name)
        if kind not in EFFORT:
            return
        probes = probes_like(unit_vectors(features[probe_rows(len(ids))]))
        truth = ids[true_neighbours(probes, features)]
        first, limit = (16, 4096) if kind == "hnsw" else (1, lists)
        target = self.manifest.wanted_recall
        effort, recall = cheapest(lambda effort: self._neighbours(probes, effort), truth, target, first, limit)
        self.manifest = replace(self.manifest, search={EFFORT[kind]: effort}, recall=recall)
        self.client.alter_collection_properties(self.name, {MANIFEST: json.dumps(asdict(self.manifest))})

    def delete(self, ids: Sequence[int]) -> None:
        for start in range(0, len(ids), IDS):
            self.client.delete(self.name, ids=list(ids[start : start + IDS]))

    def count(self) -> int:
        return int(self.client.query(self.name, filter="", output_fields=["count(*)"])[0]["count(*)"])

    def find(self, paths: Collection[str], labels: Collection[str], ids: Collection[int]) -> list[Item]:
        """Return the items with one of the paths, labels or ids, in order of id."""
        keys: dict[str, list[str] | list[int]] = {
            "path": [plain_text(path) for path in paths],
            "label": [plain_text(label) for label in labels],
            "id": [*ids],
        }
        items: dict[int, Item] = {}
        for column, values in keys.items():
            for start in range(0, len(values), VALUES):
                some = json.dumps(values[start : start + VALUES], ensure_ascii=False)
                items |= {item.id: item for item in self.items(f"{column} in {some}")}
        return [items[n] for n in sorted(items)]

    def items(self, condition: str = "") -> Iterator[Item]:
        """Yield the items in order of id; `condition` is in Milvus's filter language."""
        pages = self.client.query_iterator(
            self.name, batch_size=PAGE, filter=condition, output_fields=["id", "label", "path"]
        )
        try:
            while rows := pages.next():
                yield from (Item(int(row["id"]), row["label"], row["path"]) for row in rows)
        finally:
            pages.close()

    def search(self, vectors: np.ndarray, top: int) -> Iterator[list[Match]]:
        """Yield the best `top` matches of each unit vector [N, D]."""
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
        """Return the ids int64 [N, k] of the neighbours, padded with -1."""
        parameters = _parameters({EFFORT[self.manifest.kind]: effort}, NEIGHBOURS)
        ids = np.full((len(probes), NEIGHBOURS), -1, np.int64)
        for number, row in enumerate(self.client.search(self.name, probes, limit=NEIGHBOURS, search_params=parameters)):
            ids[number, : len(row)] = [hit["id"] for hit in row]
        return ids


def drop_others(client: MilvusClient, current: str, alias: str) -> None:
    """Drop the collection that `current` replaced behind the alias, and those that interrupted builds left behind."""
    for name in client.list_collections():
        if name == current or not name.startswith(f"{alias}_"):
            continue
        if client.describe_collection(name).get("properties", {}).get(ALIAS) == alias:
            client.drop_collection(name)


def _parameters(search: dict[str, int], top: int) -> dict[str, Any]:
    """Return Milvus's search parameters; it refuses an `ef` below the number of matches."""
    return {"metric_type": "IP", "params": {k: max(v, top) if k == "ef" else v for k, v in search.items()}}
