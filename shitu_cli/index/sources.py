"""Vectors that lie in files already: what `shitu extract` writes, and the indexes of other programs."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from shitu_cli.errors import Command, DataError, EnvironmentProblem, UsageError
from shitu_cli.index.foreign import foreign_vectors
from shitu_cli.index.store import FeatureTable

ROWS = 8192  # read at once from formats that cannot be mapped


def read_features(path: Path) -> FeatureTable:
    """Vectors of .npy (with the .tsv beside it), .npz, .jsonl, .parquet or another program's `vector.index`.

    A .npy stays on disk and is read where it is needed; others are held in memory once.
    Raises UsageError for another suffix, DataError for files that are damaged or do not fit each other.
    """
    readers: dict[str, Callable[[Path], FeatureTable]] = {
        ".npy": _npy,
        ".npz": _npz,
        ".jsonl": _jsonl,
        ".parquet": _parquet,
        ".index": foreign_vectors,
    }
    if path.suffix not in readers:
        raise UsageError(f"--features {path}: expected a name that ends in {', '.join(readers)}")
    if not path.is_file():
        raise UsageError(f"no such file: {path}", hint=[Command("extract"), " writes it"])
    try:
        table = readers[path.suffix](path)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {path}: {error}", hint=[Command("extract"), " writes such files"]) from None
    if table.features.ndim != 2 or table.features.dtype.kind != "f":
        raise DataError(f"{path}: expected rows of real numbers, got {table.features.dtype} {table.features.shape}")
    return table.checked()


def _npy(path: Path) -> FeatureTable:
    features = np.load(path, mmap_mode="r", allow_pickle=False)
    table = path.with_suffix(".tsv")
    rows = [line.split("\t") for line in table.read_text(encoding="utf-8").rstrip("\n").split("\n")[1:]]
    if len(rows) != len(features):
        raise DataError(f"{path}: {len(features)} vectors, but {len(rows)} lines in {table.name}")
    return FeatureTable(features, [row[1] if len(row) > 1 else "" for row in rows], [row[0] for row in rows])


def _npz(path: Path) -> FeatureTable:
    with np.load(path, allow_pickle=False) as data:
        return FeatureTable(data["features"], data["labels"].tolist(), data["paths"].tolist())


def _jsonl(path: Path) -> FeatureTable:
    with path.open("rb") as file:
        count = sum(1 for _ in file)
    features, labels, paths = np.empty((0, 0), np.float32), [], []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file):
            item = json.loads(line)
            if number == 0:
                features = np.empty((count, len(item["feature"])), np.float32)
            if len(item["feature"]) != features.shape[1]:
                raise DataError(f"{path}:{number + 1}: {len(item['feature'])} values, expected {features.shape[1]}")
            features[number] = item["feature"]
            labels.append(str(item.get("label", "")))
            paths.append(str(item["path"]))
    return FeatureTable(features, labels, paths)


def _parquet(path: Path) -> FeatureTable:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise EnvironmentProblem("parquet needs the package pyarrow", hint="pip install 'shitu-cli[parquet]'") from None
    labels: list[str] = []
    paths: list[str] = []
    features, done = np.empty((0, 0), np.float32), 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS, columns=["path", "label", "feature"]):
                vectors = batch.column("feature").flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1)
                if done == 0:
                    features = np.empty((file.metadata.num_rows, vectors.shape[1]), np.float32)
                features[done : done + len(batch)] = vectors
                done += len(batch)
                labels += batch.column("label").to_pylist()
                paths += batch.column("path").to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(f"cannot read {path}: {error}", hint=[Command("extract"), " writes such files"]) from None
    return FeatureTable(features, labels, paths)
