"""Vectors from files: what `shitu extract` writes, and the indexes of other programs.

The files may come from strangers: sizes are compared with the file before memory is taken, and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from shitu_cli.errors import Command, DataError, UsageError
from shitu_cli.features.origin import Origin, from_here, noted_origins
from shitu_cli.features.shard_file import SUFFIX
from shitu_cli.features.writing import complete_pair
from shitu_cli.index import is_index
from shitu_cli.index.faiss_file import check_faiss
from shitu_cli.index.foreign import foreign_vectors
from shitu_cli.index.parquet_file import read_parquet
from shitu_cli.index.store import EXTRACT, FeatureTable
from shitu_cli.inputs import EXPANDS, MIB, is_input, open_input, parse_json, read_lines
from shitu_cli.inputs.damage import DAMAGE
from shitu_cli.inputs.lines import byte_lines
from shitu_cli.inputs.npy_files import read_npy, read_npy_header
from shitu_cli.runtime.memory import require_room

PAUSE, PAUSES = 0.05, 40  # seconds between attempts while two files are being replaced, and how many attempts
MAX_TABLE = 16_384 * MIB
MAX_LINE = 16 * MIB  # of .jsonl: the most values that a feature may have take two


class FeatureFile(NamedTuple):
    """The contents of a file and the fingerprint of the model that computed them, "" if unknown."""

    table: FeatureTable
    model: str


def read_features(path: Path) -> FeatureFile:
    """Read the vectors of a .npy (with the .tsv beside it), .npz, .jsonl, .parquet, of a .shard of such a file, or of
    another program's `vector.index`.

    A .npy stays on disk and is read as needed; other formats are loaded into memory. A .shard may be empty: there can
    be more of them than batches of images.
    Raises UsageError for another suffix, DataError for files that are damaged or do not belong together.
    """
    readers: dict[str, Callable[[Path], FeatureFile]] = {
        ".npy": _npy,
        ".npz": lambda path: _single(path, _npz),
        ".jsonl": lambda path: _single(path, _jsonl),
        ".parquet": lambda path: _single(path, read_parquet),
        SUFFIX: _shard,
        ".index": _index,
    }
    if path.suffix not in readers:
        raise UsageError(f"--features {path}: expected a name that ends in {', '.join(readers)}")
    if not is_input(path):
        raise UsageError(f"no such file: {path}", hint=[Command("extract"), " writes it"])
    try:
        content = readers[path.suffix](path)
    except MemoryError:
        raise DataError(f"cannot read {path}: it claims more values than fit into memory", hint=EXTRACT) from None
    except DAMAGE as error:
        raise DataError(f"cannot read {path}: {error or type(error).__name__}", hint=EXTRACT) from None
    features = content.table.features
    if features.ndim != 2 or features.dtype.kind != "f":
        raise DataError(f"{path}: expected rows of real numbers, got {features.dtype} {features.shape}")
    is_empty_part = path.suffix == SUFFIX and not len(features)
    table = content.table if is_empty_part else content.table.validate(path)
    if features.shape[1] == 0:
        raise DataError(f"{path}: its vectors have no values")
    return content._replace(table=table)


def _index(path: Path) -> FeatureFile:
    """Read an index of this program, which knows paths and model, or that of another one."""
    from shitu_cli.index.files import VECTORS, load_index

    if path.name != VECTORS or not is_index(path.parent) or check_faiss(path).kind == "binary":
        return FeatureFile(foreign_vectors(path), "")
    index = load_index(path.parent)
    items = list(index.items())
    features = index.vectors(np.asarray([item.id for item in items], np.int64))
    paths = from_here([item.path for item in items], os.pardir, path)  # they start at the workspace
    return FeatureFile(FeatureTable(features, [item.label for item in items], paths), index.manifest.model)


def _shard(path: Path) -> FeatureFile:
    from shitu_cli.features.extract_shards import read_part

    features, names, model = read_part(path)
    return FeatureFile(FeatureTable(features, [label for _, label in names], [name for name, _ in names]), model)


def _single(path: Path, read: Callable[[Path], FeatureTable]) -> FeatureFile:
    with open_input(path, hint=EXTRACT) as file:
        origin = _matching(path, file)
    table = read(path)
    if origin is None:
        return FeatureFile(table, "")
    return FeatureFile(table._replace(paths=from_here(table.paths, origin.folder, path)), origin.model)


def _npy(path: Path) -> FeatureFile:
    """Read a .npy with its table; wait while `extract` has replaced only one of them, and do it for a killed one."""
    table = path.with_suffix(".tsv")
    for attempts_left in reversed(range(PAUSES)):
        with open_input(path, hint=EXTRACT) as file:
            origin, digest = _matching(path, file), hashlib.sha256()
            labels, paths = _table(table, digest)
            if origin is None or origin.table_sha256 in ("", digest.hexdigest()):
                features = _map_array(file, path)
                break
        if complete_pair(path):
            return _npy(path)
        if not attempts_left:
            advice = f" again; if you changed {table.name} by hand, delete {path.name}.model.json"
            raise DataError(
                f"{table} does not belong to the vectors of {path}: one of them is from an earlier or interrupted run",
                hint=["run ", Command("extract"), advice],
            )
        time.sleep(PAUSE)
    if len(paths) != len(features):
        raise DataError(f"{path}: {len(features)} vectors, but {len(paths)} lines in {table.name}")
    if origin is None:
        return FeatureFile(FeatureTable(features, labels, paths), "")
    return FeatureFile(FeatureTable(features, labels, from_here(paths, origin.folder, path)), origin.model)


def _table(file: Path, digest: Any) -> tuple[list[str], list[str]]:
    """Return the labels and paths of a table below its heading; `digest` receives its bytes."""
    labels: list[str] = []
    paths: list[str] = []
    lines = read_lines(file, limit=MAX_TABLE, hint=EXTRACT, digest=digest)
    next(lines, None)
    for line in lines:
        path, _, rest = line.removesuffix("\r").partition("\t")
        labels.append(rest.partition("\t")[0])
        paths.append(path)
    return labels, paths


def _matching(path: Path, file: BinaryIO) -> Origin | None:
    """Return the noted origin of exactly this file; it is hashed only if there is a note."""
    origins = noted_origins(path)
    if not origins:
        return None
    digest = _digest(file)
    return next((origin for origin in origins if origin.sha256 == digest), None)


def _digest(file: BinaryIO) -> str:
    """Return the SHA-256 of an open file and rewind it."""
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(MIB):
        digest.update(block)
    file.seek(0)
    return digest.hexdigest()


def _map_array(file: BinaryIO, path: Path) -> np.ndarray:
    """Return the array of an open .npy, memory-mapped."""
    dtype, shape, fortran = read_npy_header(file, str(path))
    start = file.tell()
    size = file.seek(0, io.SEEK_END) - start
    if size != math.prod(shape) * dtype.itemsize:
        raise DataError(f"{path} is damaged: {size} bytes of values do not fit its shape {shape}", hint=EXTRACT)
    if not size:
        return np.empty(shape, dtype)
    return np.memmap(file, dtype, "r", start, shape, "F" if fortran else "C")


def _npz(path: Path) -> FeatureTable:
    with open_input(path, hint=EXTRACT) as file, zipfile.ZipFile(file) as archive:
        size = file.seek(0, io.SEEK_END)
        members = {info.filename: info for info in archive.infolist()}
        names = [f"{name}.npy" for name in ("features", "labels", "paths")]
        missing = [name for name in names if name not in members]
        if missing:
            raise DataError(f"{path}: it lacks {', '.join(missing)}", hint=EXTRACT)
        unpacked = sum(members[name].file_size for name in names)
        if unpacked > EXPANDS * size + MIB:
            raise DataError(f"{path} expands to many times its size, as no file of features does", hint=EXTRACT)
        require_room(unpacked, path)
        arrays = []
        for name in names:
            with archive.open(members[name]) as entry:
                arrays.append(read_npy(entry, members[name].file_size, f"{path}: {name}", text=True))  # type: ignore[arg-type]
    features, labels, paths = arrays
    if any(texts.dtype.kind != "U" or texts.ndim != 1 for texts in (labels, paths)):
        raise DataError(f"{path}: its labels and paths are not lists of text", hint=EXTRACT)
    return FeatureTable(features, labels.tolist(), paths.tolist())


def _jsonl(path: Path) -> FeatureTable:
    features, labels, paths = np.empty((0, 0), np.float32), [], []
    with open_input(path, hint=EXTRACT) as file:
        count = sum(block.count(b"\n") + 1 for block in byte_lines(file, path, longest=MAX_LINE, hint=EXTRACT))
        size = file.tell()
        file.seek(0)
        blocks = byte_lines(file, path, longest=MAX_LINE, hint=EXTRACT)
        for number, line in enumerate(line for block in blocks for line in block.split(b"\n")):
            where = f"{path}:{number + 1}"
            path_, label, values = _item(parse_json(line, where, hint=EXTRACT), where)
            if number == 0:
                if count * len(values) * 2 > size + 2:  # each value takes a digit and a comma at least
                    raise DataError(f"{where}: {len(values)} values, more than the other lines have", hint=EXTRACT)
                require_room(count * len(values) * 4, path)
                features = np.empty((count, len(values)), np.float32)
            if len(values) != features.shape[1]:
                raise DataError(f"{where}: {len(values)} values, expected {features.shape[1]}")
            features[number] = values
            labels.append(label)
            paths.append(path_)
    return FeatureTable(features, labels, paths)


def _item(item: Any, where: str) -> tuple[str, str, list[float]]:
    """Return the path, label and values of a line of .jsonl."""
    if not isinstance(item, dict) or not {"path", "feature"} <= item.keys():
        raise DataError(f"{where}: expected an object with path, label and feature", hint=EXTRACT)
    path, label, values = item["path"], item.get("label", ""), item["feature"]
    if not isinstance(path, str) or not isinstance(label, (str, int, float)):
        raise DataError(f"{where}: path and label must be text", hint=EXTRACT)
    if not isinstance(values, list) or not all(type(v) in (int, float) and abs(v) < 3e38 for v in values):
        raise DataError(f"{where}: feature must be a list of finite numbers", hint=EXTRACT)
    return path, str(label), values
