"""The vector index: a directory that this program, PaddleX and PaddleClas's deployment code can read.

`vector.index` (faiss, ids mapped), `id_map.yaml` (PaddleX's), `items.tsv` (id, label, path), `manifest.json`. Every
change writes a new directory beside the old one and swaps them in one step.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from shitu_cli.errors import DataError, UsageError
from shitu_cli.workspace import atomic_dir, atomic_write, atomic_write_json, atomic_write_text

KINDS = ("flat", "hnsw", "ivf", "binary")
FORMAT = 1
MANIFEST = "manifest.json"
PROBES = 200  # queries that measure an approximate index against the exact search
NEIGHBOURS = 10


@dataclass(frozen=True)
class Match:
    """One hit: cosine similarity (share of equal bits for binary indexes), best first."""

    id: int
    label: str
    path: str
    score: float


@dataclass(frozen=True)
class IndexManifest:
    """`model` is the fingerprint of what made the features; `search` the parameters chosen for the target recall."""

    kind: str
    size: int
    model: str
    count: int
    next_id: int
    search: dict[str, int] = field(default_factory=dict)
    recall: float | None = None
    model_path: str = ""
    wanted_recall: float = 0.99


class VectorIndex:
    """Vectors with ids, labels and paths. Features are float32 [N, D]; they are brought to unit length here."""

    def __init__(self, manifest: IndexManifest, index: Any, labels: dict[int, str], paths: dict[int, str]) -> None:
        self.manifest, self._index = manifest, index
        self.labels, self.paths = labels, paths

    def __len__(self) -> int:
        return len(self.labels)

    # --------------------------------------------------------------------------------------------- making

    @classmethod
    def build(
        cls,
        features: np.ndarray,
        labels: Sequence[str],
        paths: Sequence[str],
        *,
        kind: str = "flat",
        model: str = "",
        model_path: str = "",
        recall: float = 0.99,
        ids: Sequence[int] | None = None,
        next_id: int | None = None,
    ) -> VectorIndex:
        """Index all vectors; approximate kinds are tuned until they find `recall` of the 10 true neighbours.

        Raises UsageError for an unknown kind, DataError for vectors that are not finite.
        """
        if kind not in KINDS:
            raise UsageError(f"--kind {kind}: expected one of {', '.join(KINDS)}")
        vectors = _unit(features)
        numbers = np.arange(len(vectors), dtype=np.int64) if ids is None else np.asarray(ids, np.int64)
        index, search, found = _make(kind, vectors, numbers, recall)
        after = int(numbers.max(initial=-1)) + 1 if next_id is None else next_id
        manifest = IndexManifest(
            kind, int(vectors.shape[1]), model, len(vectors), after, search, found, model_path, recall
        )
        as_ints = numbers.tolist()
        return cls(manifest, index, dict(zip(as_ints, labels, strict=True)), dict(zip(as_ints, paths, strict=True)))

    def add(self, features: np.ndarray, labels: Sequence[str], paths: Sequence[str]) -> VectorIndex:
        """A new index with these vectors besides; a path that is there already is replaced.

        Raises DataError when the vectors have another length than the index.
        """
        if features.shape[1] != self.manifest.size:
            raise DataError(
                f"the vectors have {features.shape[1]} values, the index {self.manifest.size}",
                hint="use the model that the index was built with, or build it anew: shitu index build",
            )
        known = set(paths)
        kept = [n for n in self.labels if self.paths[n] not in known]
        old = self.vectors(kept)
        first = self.manifest.next_id
        ids = [*kept, *range(first, first + len(labels))]
        return VectorIndex.build(
            np.concatenate([old, _unit(features)]) if len(kept) else features,
            [*(self.labels[n] for n in kept), *labels],
            [*(self.paths[n] for n in kept), *paths],
            kind=self.manifest.kind,
            model=self.manifest.model,
            model_path=self.manifest.model_path,
            recall=self.manifest.wanted_recall,
            ids=ids,
            next_id=first + len(labels),
        )

    def remove(self, ids: Sequence[int]) -> VectorIndex:
        """A new index without these ids; the others keep theirs. Works for every kind: the index is built again."""
        gone = set(ids)
        kept = [n for n in self.labels if n not in gone]
        if not kept:
            raise UsageError("that would leave the index empty", hint="delete its directory instead")
        return VectorIndex.build(
            self.vectors(kept),
            [self.labels[n] for n in kept],
            [self.paths[n] for n in kept],
            kind=self.manifest.kind,
            model=self.manifest.model,
            model_path=self.manifest.model_path,
            recall=self.manifest.wanted_recall,
            ids=kept,
            next_id=self.manifest.next_id,
        )

    def vectors(self, ids: Sequence[int] | None = None) -> np.ndarray:
        """The vectors [N, D] as the index holds them (signs only for a binary one), in the order of `ids`."""
        import faiss

        chosen = list(self.labels) if ids is None else list(ids)
        inner = self._index.index
        order = {int(n): at for at, n in enumerate(faiss.vector_to_array(self._index.id_map))}
        places = np.asarray([order[n] for n in chosen], np.int64)
        if self.manifest.kind == "binary":
            packed = faiss.vector_to_array(faiss.downcast_IndexBinary(inner).xb)
            bits = np.unpackbits(packed.reshape(-1, -(-self.manifest.size // 8)), axis=1)[places, : self.manifest.size]
            return np.where(bits > 0, np.float32(1), np.float32(-1))
        inner = faiss.downcast_index(inner)
        if self.manifest.kind == "ivf":
            inner.make_direct_map()
        return np.asarray(inner.reconstruct_n(0, inner.ntotal), np.float32)[places]

    # --------------------------------------------------------------------------------------------- asking

    def search(self, features: np.ndarray, top: int = 5, threshold: float | None = None) -> list[list[Match]]:
        """The best `top` matches of each vector [N, D], those below `threshold` left out."""
        if features.shape[1] != self.manifest.size:
            raise DataError(
                f"the vectors have {features.shape[1]} values, the index {self.manifest.size}",
                hint="use the model that the index was built with, or build it anew: shitu index build",
            )
        scores, ids = _ask(self._index, self.manifest, _unit(features), min(top, len(self)))
        found = []
        for row_scores, row_ids in zip(scores, ids, strict=True):
            pairs = zip(row_ids.tolist(), row_scores.tolist(), strict=True)
            found.append(
                [
                    Match(n, self.labels[n], self.paths[n], score)
                    for n, score in pairs
                    if n >= 0 and (threshold is None or score >= threshold)
                ]
            )
        return found

    # --------------------------------------------------------------------------------------------- files

    def save(self, folder: Path) -> None:
        """Put the index into `folder`, whole or not at all; UsageError when other files lie there."""
        _refuse_foreign(folder)
        with atomic_dir(folder) as new:
            _write_faiss(self._index, new / "vector.index", self.manifest.kind)
            names = {
                "id_map": {int(n): label for n, label in self.labels.items()},
                "index_type": {"hnsw": "HNSW32", "ivf": "IVF"}.get(self.manifest.kind, "Flat"),
                "metric_type": "hamming" if self.manifest.kind == "binary" else "IP",
            }
            dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
            atomic_write_text(new / "id_map.yaml", yaml.dump(names, Dumper=dumper, allow_unicode=True, sort_keys=False))
            lines = (f"{n}\t{_field(label)}\t{_field(self.paths[n])}\n" for n, label in self.labels.items())
            atomic_write_text(new / "items.tsv", "".join(lines))
            atomic_write_json(new / MANIFEST, {"format": FORMAT, **asdict(self.manifest)})

    def export(self, folder: Path) -> list[str]:
        """Write `folder` for PaddleClas's deployment code (`id_map.pkl`) and PaddleX (`id_map.yaml`).

        Their code cuts an item at white space, so blanks in labels and paths become underscores; returns the labels
        that changed. Raises UsageError when other files lie there.
        """
        changed = sorted({label for label in self.labels.values() if len(label.split()) != 1})
        plain = {n: "_".join(label.split()) or "_" for n, label in self.labels.items()}
        paths = {n: "_".join(self.paths[n].split()) or "_" for n in self.labels}
        VectorIndex(self.manifest, self._index, plain, self.paths).save(folder)
        with atomic_write(folder / "id_map.pkl") as file:
            pickle.dump({n: f"{paths[n]}\t{label}" for n, label in plain.items()}, file)
        return changed

    @classmethod
    def load(cls, folder: Path) -> VectorIndex:
        """Raises UsageError when there is no index, DataError when it is damaged or incomplete."""
        import faiss

        if not (folder / "vector.index").is_file():
            raise UsageError(f"no index in {folder}", hint="shitu index build")
        manifest = _read_manifest(folder)
        labels, paths = _read_items(folder)
        try:
            read = faiss.read_index_binary if manifest.kind == "binary" else faiss.read_index
            index = read(str(folder / "vector.index"))
        except RuntimeError as error:
            raise DataError(f"{folder / 'vector.index'} is damaged: {error}", hint="shitu index build") from None
        if index.ntotal != len(labels):
            raise DataError(
                f"{folder}: {index.ntotal} vectors, but {len(labels)} items in its table", hint="shitu index build"
            )
        _set_search(index, manifest.kind, manifest.search)
        return cls(manifest, index, labels, paths)


def _unit(features: np.ndarray) -> np.ndarray:
    vectors = np.ascontiguousarray(features, np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise DataError(f"vector {int(np.argmin(np.isfinite(lengths))) + 1} is not finite")
    # What has unit length already keeps its bits, so that scores equal evaluation's.
    return np.where(np.abs(lengths - 1) < 1e-6, vectors, vectors / np.maximum(lengths, 1e-12)).astype(np.float32)


def _make(kind: str, vectors: np.ndarray, ids: np.ndarray, recall: float) -> tuple[Any, dict[str, int], float | None]:
    import faiss

    # The graph of hnsw depends on which thread adds first: small ones, built at once anyway, are made to repeat.
    faiss.omp_set_num_threads(1 if kind == "hnsw" and len(vectors) <= 20_000 else _cores())
    size = vectors.shape[1]
    if kind == "binary":
        packed = np.packbits(vectors >= 0, axis=1)
        index = faiss.IndexBinaryIDMap2(faiss.IndexBinaryFlat(packed.shape[1] * 8))
        index.add_with_ids(packed, ids)
        return index, {}, None
    factory = {"flat": "Flat", "hnsw": "HNSW32", "ivf": f"IVF{_lists(len(vectors))},Flat"}[kind]
    index = faiss.IndexIDMap2(faiss.index_factory(size, factory, faiss.METRIC_INNER_PRODUCT))
    if kind == "hnsw":
        faiss.downcast_index(index.index).hnsw.efConstruction = 128
    if kind == "ivf":
        index.train(vectors)
    index.add_with_ids(vectors, ids)
    if kind == "flat":
        return index, {}, None
    return (index, *_tune(index, kind, vectors, ids, recall))


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _lists(count: int) -> int:
    """PaddleX's rule for small sets, the usual square root for large ones."""
    return int(min(max(1, count // 39), max(8, 4 * count**0.5), 65536))


def _tune(index: Any, kind: str, vectors: np.ndarray, ids: np.ndarray, recall: float) -> tuple[dict[str, int], float]:
    """The cheapest search parameter that reaches the recall among true neighbours of perturbed vectors."""
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(vectors), min(PROBES, len(vectors)), replace=False)
    noise = rng.standard_normal((len(chosen), vectors.shape[1])).astype(np.float32)
    # Another picture of the same thing: cosine about 0.8 to the one that is indexed.
    probes = _unit(vectors[chosen] + 0.7 * noise / np.sqrt(vectors.shape[1], dtype=np.float32))
    top = min(NEIGHBOURS, len(vectors))
    similarity = probes @ vectors.T
    truth = ids[np.argpartition(-similarity, top - 1, axis=1)[:, :top]]
    name = "efSearch" if kind == "hnsw" else "nprobe"
    found, value = 0.0, 0
    limit = 4096 if kind == "hnsw" else _lists(len(vectors))
    value = 16 if kind == "hnsw" else 1
    while True:
        _set_search(index, kind, {name: value})
        got = index.search(probes, top)[1]
        hits = sum(len(np.intersect1d(a, b)) for a, b in zip(got, truth, strict=True))
        found = hits / truth.size
        if found >= recall or value >= limit:
            return {name: value}, round(found, 4)
        value = min(limit, value * 2)


def _set_search(index: Any, kind: str, values: Mapping[str, int]) -> None:
    import faiss

    if kind not in ("hnsw", "ivf") or not values:
        return
    inner = faiss.downcast_index(index.index)
    if kind == "hnsw":
        inner.hnsw.efSearch = values["efSearch"]
    else:
        inner.nprobe = values["nprobe"]


def _ask(index: Any, manifest: IndexManifest, vectors: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    import faiss

    faiss.omp_set_num_threads(_cores())
    if manifest.kind != "binary":
        return index.search(vectors, top)
    distances, ids = index.search(np.packbits(vectors >= 0, axis=1), top)
    return 1 - distances / manifest.size, ids


def _write_faiss(index: Any, path: Path, kind: str) -> None:
    import faiss

    data = faiss.serialize_index_binary(index) if kind == "binary" else faiss.serialize_index(index)
    # Through our own writer: faiss's does not sync, and says little about a full disk.
    with atomic_write(path) as file:
        file.write(memoryview(data))


def _field(text: str) -> str:
    plain = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return plain.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _unfield(text: str) -> str:
    out, escaped = [], False
    for char in text:
        if escaped:
            out.append({"t": "\t", "n": "\n", "r": "\r"}.get(char, char))
            escaped = False
        elif char == "\\":
            escaped = True
        else:
            out.append(char)
    return "".join(out)


def _read_items(folder: Path) -> tuple[dict[int, str], dict[int, str]]:
    labels: dict[int, str] = {}
    paths: dict[int, str] = {}
    file = folder / "items.tsv"
    try:
        for line in file.read_text(encoding="utf-8").rstrip("\n").split("\n"):
            number, label, path = line.split("\t")
            labels[int(number)], paths[int(number)] = _unfield(label), _unfield(path)
    except FileNotFoundError:
        return _read_foreign(folder)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is damaged: {error}", hint="shitu index build") from None
    return labels, paths


def _read_foreign(folder: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Labels of an index that PaddleX wrote; a pickled map is never opened, as it could run code."""
    file = folder / "id_map.yaml"
    if not file.is_file():
        raise DataError(
            f"{folder}: neither items.tsv nor id_map.yaml tells the labels of its vectors"
            + (" (id_map.pkl is not opened: a pickle can run code)" if (folder / "id_map.pkl").exists() else ""),
            hint="build it anew: shitu index build",
        )
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        labels = {int(n): str(label) for n, label in values["id_map"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise DataError(f"{file} is damaged: {error}", hint="build it anew: shitu index build") from None
    return labels, dict.fromkeys(labels, "")


def _read_manifest(folder: Path) -> IndexManifest:
    file = folder / MANIFEST
    if not file.is_file():
        return _foreign_manifest(folder)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            raise DataError(f"{file}: written by another version", hint="build it anew: shitu index build")
        return IndexManifest(**values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is damaged: {error}", hint="build it anew: shitu index build") from None


def _foreign_manifest(folder: Path) -> IndexManifest:
    """What can be told of an index without our manifest: it says nothing of its model."""
    import faiss

    try:
        index = faiss.read_index(str(folder / "vector.index"))
    except RuntimeError as error:
        raise DataError(f"{folder / 'vector.index'} cannot be read: {error}", hint="shitu index build") from None
    if not hasattr(index, "id_map"):
        raise DataError(f"{folder / 'vector.index'} has no ids", hint="build it anew: shitu index build")
    inner = type(faiss.downcast_index(index.index)).__name__
    kind = "hnsw" if "HNSW" in inner else "ivf" if "IVF" in inner else "flat"
    after = int(faiss.vector_to_array(index.id_map).max(initial=-1)) + 1
    return IndexManifest(kind, index.d, "", index.ntotal, after)


def _refuse_foreign(folder: Path) -> None:
    ours = {"vector.index", "id_map.yaml", "items.tsv", MANIFEST, "id_map.pkl"}
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", hint="name a directory: --index index/")
    foreign = sorted(p.name for p in folder.iterdir() if p.name not in ours) if folder.is_dir() else []
    if foreign:
        raise UsageError(
            f"{folder} holds other files ({', '.join(foreign[:3])})", hint="give the index a directory of its own"
        )
