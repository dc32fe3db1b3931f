"""The index as a directory that this program, PaddleX and PaddleClas's deployment code can read.

`vector.index` (faiss, ids mapped), `id_map.yaml` (PaddleX's), `items.tsv` (id, label, path), `manifest.json`. Every
change writes a new directory beside the old one and swaps them in one step. The files of one generation are tied
together: the manifest holds the hash of the items and a mark that is appended to the vectors.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import threading
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml

from shitu_cli.boundary import place_to_write
from shitu_cli.config.arguments import several, whole_ids
from shitu_cli.errors import Command, DataError, EnvironmentProblem, ShituError, UsageError
from shitu_cli.files import atomic_dir, atomic_write, require_own_folder
from shitu_cli.index.faiss_file import INNER_PRODUCT, FaissFile, check_faiss
from shitu_cli.index.flat import MOST_VALUES, FlatVectors
from shitu_cli.index.foreign import foreign_items, foreign_manifest, read_faiss
from shitu_cli.index.items_file import read_items, write_items
from shitu_cli.index.manifest_file import Tie, read_manifest, write_manifest
from shitu_cli.index.measured import noted
from shitu_cli.index.store import (
    AGAIN,
    BuildOptions,
    FeatureTable,
    IndexManifest,
    Item,
    Match,
    Texts,
    check_options,
    plain_text,
)
from shitu_cli.index.vectors import VectorIndex
from shitu_cli.inputs import is_input, open_input, path_problem
from shitu_cli.reporting import Reporter
from shitu_cli.workspace import Workspace

PATIENCE = 20.0  # seconds to wait for another process that changes the index
TRIES = 20  # at reading a directory that other processes keep replacing
MARK = b"\nshitu generation "  # followed by 64 hexadecimal digits, after the vectors
VECTORS = "vector.index"
ITEMS = "items.tsv"
MANIFEST = "manifest.json"
OURS = {VECTORS, ITEMS, MANIFEST, "id_map.yaml", "id_map.pkl"}


class FileStore:
    """The index in `folder`: read whole when first used, written whole at each change."""

    def __init__(self, folder: Path) -> None:
        check_place(folder)
        self.folder, self.place = folder, str(folder)
        self._read: VectorIndex | None = None
        self._writer: int | None = None  # the thread that holds the lock through this store

    @contextlib.contextmanager
    def writing(self, patience: float = 0.0) -> Iterator[None]:
        """Lock the index for one writer: of two that each save what they read, one change would be lost.

        Another writer is waited for up to `patience` seconds, and its changes are read.
        """
        with Workspace(place_to_write(self.folder).parent).lock("index", patience=patience):
            self._read, self._writer = None, threading.get_ident()
            try:
                yield
            finally:
                self._writer = None

    def check(self, options: BuildOptions) -> None:
        check_options(options)
        refuse_foreign(self.folder)

    def build(self, table: FeatureTable, options: BuildOptions, reporter: Reporter) -> None:
        with self._turn():
            self._save(VectorIndex.build(table, options, reporter))

    def add(self, table: FeatureTable, reporter: Reporter) -> int:
        with self._turn():
            index, self._read = self._index, None  # what a change that fails has begun is not searched
            replaced = index.add(table, reporter)
            self._save(index)
        return replaced

    def remove(self, ids: Collection[int], reporter: Reporter) -> None:
        with self._turn():
            index, self._read = self._index, None
            index.remove(ids, reporter)
            self._save(index)

    def note_measured(self, model: str, block: dict[str, Any] | None) -> bool:
        """Store the measured thresholds of its model in the index; return False if it belongs to another model.

        Only the manifest is written: vectors, items and their tie to it stay.
        """
        with self.writing(patience=PATIENCE):
            manifest, file = load_index(self.folder).manifest, self.folder / MANIFEST
            ours = read_manifest(file)
            if ours is None or manifest.model != model:
                return False
            if noted(manifest, block) != manifest:
                write_manifest(file, noted(manifest, block), ours[1])
            self._read = None
            return True

    def find(self, paths: Texts = (), labels: Texts = (), ids: Collection[int] = ()) -> list[Item]:
        of_paths, of_labels, of_ids = set(several(paths)), set(several(labels)), set(whole_ids(ids))
        return [item for item in self.items() if item.path in of_paths or item.label in of_labels or item.id in of_ids]

    def manifest(self) -> IndexManifest:
        return self._index.manifest

    def items(self) -> Iterator[Item]:
        return self._index.items()

    def label_count(self) -> int:
        return len({*self._index.labels.values()} - {""})

    def search(self, features: np.ndarray, top: int = 5, threshold: float | None = None) -> list[list[Match]]:
        return self._index.search(features, top, threshold)

    def close(self) -> None:
        self._read = None

    def _turn(self) -> AbstractContextManager[None]:
        """Return a context for one change, which locks the index unless this thread has done so for several."""
        return contextlib.nullcontext() if self._writer == threading.get_ident() else self.writing(PATIENCE)

    def _save(self, index: VectorIndex) -> None:
        self._read = None  # after a failed write, searches must not see the new index
        save_index(index, self.folder)
        self._read = index

    @property
    def _index(self) -> VectorIndex:
        if self._read is None:
            self._read = load_index(self.folder)
        return self._read


def check_place(folder: Path) -> None:
    """Raise UsageError for a path that no directory can have."""
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # reported where it is read or written
        pass
    except (OSError, ValueError) as error:
        raise path_problem(folder, error, error=UsageError, hint="name another directory for the index") from None


def load_index(folder: Path) -> VectorIndex:
    """Read the index in `folder`, again if it is replaced in between, so that generations never mix.

    Raises UsageError if there is no index, DataError if it is damaged or its files do not belong together.
    """
    for _ in range(TRIES):
        with _hold(folder) as is_still_there:
            try:
                index = _load(folder)
            except ShituError:
                if is_still_there():
                    raise
                continue
            if is_still_there():
                return index
    raise EnvironmentProblem(f"{folder} keeps being replaced while it is read", hint="run the command again")


@contextlib.contextmanager
def _hold(folder: Path) -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether `folder` is still the same directory.

    A change puts a new directory in its place, and never puts one back. While the former one is open here, its
    inode number cannot be reused: what was read by path in between came from one generation.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except (OSError, ValueError):  # missing or not a directory: reading it reports that
        yield lambda: True
        return

    def is_still_there() -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(folder))
        except OSError:
            return False

    try:
        yield is_still_there
    finally:
        os.close(descriptor)


def _load(folder: Path) -> VectorIndex:
    file = folder / VECTORS
    if not is_input(file):
        raise UsageError(f"no index in {folder}", hint=Command("index build"))
    content = check_faiss(file)
    ours = read_manifest(folder / MANIFEST)
    manifest, tie = ours or (foreign_manifest(content, file), Tie())
    labels, paths = read_items(folder / ITEMS, tie.items) or foreign_items(folder)
    _check_tie(file, content, tie, ours is not None)
    if content.ids is None or content.count != len(labels):
        raise DataError(f"{folder}: {content.count} vectors, but {len(labels)} items in its table", hint=AGAIN)
    item_ids = np.fromiter(labels, np.int64, len(labels))
    if not np.array_equal(np.sort(item_ids), np.sort(content.ids)):
        raise DataError(f"{folder}: the ids of its vectors and of its items differ", hint=AGAIN)
    bits = -(-manifest.size // 8) * 8 if manifest.kind == "binary" else manifest.size
    after = int(content.ids.max(initial=-1)) + 1
    expected = (manifest.kind, bits, manifest.count, content.metric if manifest.kind == "binary" else INNER_PRODUCT)
    if expected != (content.kind, content.size, content.count, content.metric) or (manifest.next_id or 0) < after:
        raise DataError(f"{folder}: {MANIFEST} and {VECTORS} contradict each other", hint=AGAIN)
    if content.vectors is not None and content.vectors.size <= MOST_VALUES:
        return VectorIndex(manifest, FlatVectors(np.array(content.vectors), content.ids), labels, paths)
    return VectorIndex(manifest, read_faiss(file), labels, paths)


def _check_tie(file: Path, content: FaissFile, tie: Tie, ours: bool) -> None:
    """Raise DataError if the vectors and the manifest were not written together."""
    with open_input(file) as data:
        data.seek(content.end)
        mark = data.read(len(MARK) + 64)
    if ours and mark != _mark(tie.generation):
        raise DataError(
            f"{file} was not written together with {MANIFEST} and {ITEMS} beside it",
            hint=[
                *AGAIN,
                f"; if another program changed it, delete {MANIFEST} and {ITEMS} to read that program's map",
            ],
        )


def _mark(generation: str) -> bytes:
    """Return the bytes that follow the vectors; faiss stops reading before them."""
    return MARK + generation.encode() if generation else b""


def save_index(index: VectorIndex, folder: Path) -> None:
    """Write the index to `folder`, whole or not at all; UsageError if the folder holds other files."""
    refuse_foreign(folder)
    with atomic_dir(folder) as new:
        _write_files(index, new, index.labels)


def export_index(index: VectorIndex, folder: Path) -> list[str]:
    """Write the index to `folder` for PaddleClas's deployment code (`id_map.pkl`) and PaddleX (`id_map.yaml`).

    Their code splits an item at white space, so spaces in labels and paths become underscores; returns the labels
    that this changed, sorted. Raises UsageError if the folder holds other files, or an index that is no such export.
    """
    refuse_foreign(folder, hint="name a new directory")
    if (folder / VECTORS).exists() and not ((folder / MANIFEST).exists() and (folder / "id_map.pkl").exists()):
        raise UsageError(f"{folder} holds an index, which the export would replace", hint="name a new directory")
    spaced_labels = sorted({label for label in index.labels.values() if len(label.split()) != 1})
    plain = {n: "_".join(label.split()) or "_" for n, label in index.labels.items()}
    paths = {n: "_".join(path.split()) or "_" for n, path in index.paths.items()}
    with atomic_dir(folder) as new:
        _write_files(index, new, plain)
        with atomic_write(new / "id_map.pkl") as file:
            pickle.dump({n: f"{paths[n]}\t{label}" for n, label in plain.items()}, file)
    return spaced_labels


def refuse_foreign(folder: Path, hint: str = "give the index a separate directory: --index index/") -> None:
    """Raise UsageError if `folder` is a file or holds files that do not belong to an index."""
    check_place(folder)
    require_own_folder(folder, OURS, hint)


def _write_files(index: VectorIndex, folder: Path, labels: dict[int, str]) -> None:
    import faiss

    kind = index.manifest.kind
    write = faiss.write_index_binary if kind == "binary" else faiss.write_index
    items = write_items(folder / ITEMS, labels, index.paths)
    # Through our own writer: faiss's does not sync, and its errors do not mention a full disk.
    with atomic_write(folder / VECTORS) as file:
        checksum = _ChecksumWriter(file)
        write(index.faiss, faiss.PyCallbackIOWriter(checksum.write))
        parts = json.dumps([items, checksum.crc, checksum.length, asdict(index.manifest)], sort_keys=True)
        generation = hashlib.sha256(parts.encode()).hexdigest()
        file.write(_mark(generation))
    with atomic_write(folder / "id_map.yaml", "w") as file:
        file.writelines(_yaml_lines(labels, kind))
    write_manifest(folder / MANIFEST, index.manifest, Tie(items, generation))


class _ChecksumWriter:
    """Writes to a file and keeps the CRC-32 and the length of what was written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.crc, self.length = file, 0, 0

    def write(self, data: bytes) -> int:
        self.crc = zlib.crc32(data, self.crc)
        self.length += len(data)
        return self.file.write(data)


def _yaml_lines(labels: dict[int, str], kind: str) -> Iterator[str]:
    """Yield the map as PaddleX writes it; each label is dumped once, as a million dumps take a minute."""
    dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    literals: dict[str, str] = {}
    yield "id_map:\n"
    for n, label in labels.items():
        if label not in literals:
            text = yaml.dump(plain_text(label), Dumper=dumper, default_style='"', allow_unicode=True, width=2**31 - 1)
            literals[label] = text.rstrip("\n")
        yield f"  {n}: {literals[label]}\n"
    yield f"index_type: {({'hnsw': 'HNSW32', 'ivf': 'IVF'}).get(kind, 'Flat')}\n"
    yield f"metric_type: {'hamming' if kind == 'binary' else 'IP'}\n"
