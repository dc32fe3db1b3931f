"""Indexes that PaddleX and PaddleClas's deployment code wrote: their faiss file, their maps from id to label."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import yaml

from shitu_cli.errors import DataError
from shitu_cli.index.store import FeatureTable, IndexManifest

AGAIN = "build it anew: shitu index build"


def read_faiss(path: Path) -> Any:
    """The faiss index of a file, binary or not; DataError when it is damaged."""
    import faiss

    try:
        with path.open("rb") as file:
            binary = file.read(2) == b"IB"  # faiss names each class of index by four letters
        return (faiss.read_index_binary if binary else faiss.read_index)(str(path))
    except (OSError, RuntimeError, MemoryError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is damaged: {reason}", hint="shitu index build") from None


def foreign_manifest(index: Any, path: Path) -> IndexManifest:
    """What can be told of an index without our manifest: it says nothing of its model.

    Raises DataError for one that this program cannot ask: without ids, by distance, or of another kind.
    """
    import faiss

    if not hasattr(index, "id_map"):
        raise DataError(f"{path} has no ids", hint=f"build one of its vectors: shitu index build --features {path}")
    after = int(faiss.vector_to_array(index.id_map).max(initial=-1)) + 1
    if isinstance(index, faiss.IndexBinary):
        if not isinstance(faiss.downcast_IndexBinary(index.index), faiss.IndexBinaryFlat):
            raise DataError(f"{path} is a binary index of another kind than flat", hint=AGAIN)
        return IndexManifest("binary", index.d, "", index.ntotal, after)
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise DataError(
            f"{path} answers with distances, not with similarities",
            hint=f"build one of its vectors: shitu index build --features {path}",
        )
    kinds = {faiss.IndexFlat: "flat", faiss.IndexHNSWFlat: "hnsw", faiss.IndexIVFFlat: "ivf"}
    inner = faiss.downcast_index(index.index)
    for of_faiss, kind in kinds.items():
        if isinstance(inner, of_faiss):
            return IndexManifest(kind, index.d, "", index.ntotal, after)
    raise DataError(f"{path} is a faiss index of a kind that is not supported: {type(inner).__name__}", hint=AGAIN)


def foreign_items(folder: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Labels and paths ("" in PaddleX's) by id, from `id_map.yaml` or `id_map.pkl`."""
    try:
        if (folder / "id_map.yaml").is_file():
            return _read_yaml(folder / "id_map.yaml")
        if (folder / "id_map.pkl").is_file():
            return _read_pickle(folder / "id_map.pkl")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise DataError(f"the id map in {folder} is damaged: {error}", hint=AGAIN) from None
    raise DataError(f"{folder}: none of items.tsv, id_map.yaml, id_map.pkl tells the labels of its vectors", hint=AGAIN)


def foreign_vectors(path: Path) -> FeatureTable:
    """Vectors float32 [N, D], labels and paths of a faiss file of any metric, to build an index of ours."""
    import faiss

    index = read_faiss(path)
    if isinstance(index, faiss.IndexBinary):
        raise DataError(f"{path} holds only signs", hint="name the pictures instead: shitu index build ./gallery")
    labels, paths = foreign_items(path.parent)
    ids = faiss.vector_to_array(index.id_map).tolist() if hasattr(index, "id_map") else list(range(index.ntotal))
    missing = [n for n in ids if n not in labels]
    if missing:
        raise DataError(f"{path}: {len(missing)} vectors have no label, such as number {missing[0]}", hint=AGAIN)
    inner = faiss.downcast_index(index.index if hasattr(index, "id_map") else index)
    if isinstance(inner, faiss.IndexIVF):
        inner.make_direct_map()
    vectors = inner.reconstruct_n(0, inner.ntotal)
    return FeatureTable(vectors, [labels[n] for n in ids], [paths[n] for n in ids])


def _read_yaml(file: Path) -> tuple[dict[int, str], dict[int, str]]:
    values = yaml.load(file.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    labels = {int(n): str(label) for n, label in values["id_map"].items()}
    return labels, dict.fromkeys(labels, "")


def _read_pickle(file: Path) -> tuple[dict[int, str], dict[int, str]]:
    """PaddleClas's map: id → the line `path label` of its list, cut where its own code cuts it."""
    with file.open("rb") as handle:
        try:
            values = _PlainMap(handle).load()
        except (pickle.UnpicklingError, EOFError, IndexError) as error:
            raise DataError(f"{file} is not a plain map from numbers to text: {error}", hint=AGAIN) from None
    if not isinstance(values, dict):
        raise DataError(f"{file} is not a plain map from numbers to text", hint=AGAIN)
    words = {int(n): str(line).split() for n, line in values.items()}
    return {n: word[1] for n, word in words.items()}, {n: word[0] for n, word in words.items()}


class _PlainMap(pickle.Unpickler):
    """Reads numbers, texts and maps of them; nothing that a pickle names is ever called.

    PaddleClas's keys are numpy's int64, whose pickles name two numpy functions: stand-ins take their place.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "dtype"):
            return _Int64
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "scalar":
            return _scalar
        raise pickle.UnpicklingError(f"it names {module}.{name}")


class _Int64:
    """Stands for the type of a key: eight bytes, signed."""

    def __init__(self, name: str, *options: object) -> None:
        if name != "i8":
            raise pickle.UnpicklingError(f"its numbers are of type {name!r}, expected 'i8'")

    def __setstate__(self, state: tuple[object, ...]) -> None:
        if state[1] != "<":
            raise pickle.UnpicklingError("its numbers have another byte order")


def _scalar(kind: _Int64, raw: bytes) -> int:
    return int.from_bytes(raw, "little", signed=True)
