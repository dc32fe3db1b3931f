"""The index as a directory that this program, PaddleX and PaddleClas's deployment code can read.

`vector.index` (faiss, ids mapped), `id_map.yaml` (PaddleX's), `items.tsv` (id, label, path), `manifest.json`. Every
change writes a new directory beside the old one and swaps them in one step. The files of one generation are tied: the
manifest holds the hash of the items and a mark that stands behind the vectors.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml

from shitu_cli.errors import Command, DataError, EnvironmentProblem, ShituError, UsageError
from shitu_cli.files import atomic_dir, atomic_write
from shitu_cli.index.faiss_file import INNER_PRODUCT, FaissFile, check_faiss
from shitu_cli.index.foreign import foreign_items, foreign_manifest, read_faiss
from shitu_cli.index.items_file import read_items, write_items
from shitu_cli.index.manifest_file import Tie, read_manifest, write_manifest
from shitu_cli.index.store import (
    AGAIN,
    BuildOptions,
    FeatureTable,
    IndexManifest,
    Item,
    Match,
    check_kind,
    plain_text,
)
from shitu_cli.index.vectors import VectorIndex
from shitu_cli.inputs import is_input, open_input, path_problem
from shitu_cli.reporting import Reporter
from shitu_cli.workspace import Workspace

TRIES = 20  # of reading a directory that others replace meanwhile
MARK = b"\nshitu generation "  # and 64 hexadecimal digits, behind the vectors
VECTORS = "vector.index"
ITEMS = "items.tsv"
MANIFEST = "manifest.json"
OURS = {VECTORS, ITEMS, MANIFEST, "id_map.yaml", "id_map.pkl"}


class FileStore:
    """The index in `folder`: read whole at the first question, written whole at each change."""

    def __init__(self, folder: Path) -> None:
        check_place(folder)
        self.folder, self.place = folder, str(folder)
        self._read: VectorIndex | None = None

    def writing(self) -> AbstractContextManager[None]:
        """One writer at a time: two would each save what it read, and one change would be lost."""
        return Workspace(self.folder.resolve().parent).lock("index")

    def check(self, options: BuildOptions) -> None:
        check_kind(options.kind)
        refuse_foreign(self.folder)

    def build(self, table: FeatureTable, options: BuildOptions, reporter: Reporter) -> None:
        self._save(VectorIndex.build(table, options, reporter))

    def add(self, table: FeatureTable, reporter: Reporter) -> int:
        index = self._index
        replaced = index.add(table, reporter)
        self._save(index)
        return replaced

    def remove(self, ids: Sequence[int], reporter: Reporter) -> None:
        index = self._index
        index.remove(ids, reporter)
        self._save(index)

    def find(self, paths: Collection[str], labels: Collection[str], ids: Collection[int]) -> list[Item]:
        named = set(paths), set(labels), set(ids)
        return [i for i in self.items() if i.path in named[0] or i.label in named[1] or i.id in named[2]]

    def manifest(self) -> IndexManifest:
        return self._index.manifest

    def items(self) -> Iterator[Item]:
        return self._index.items()

    def search(self, features: np.ndarray, top: int = 5, threshold: float | None = None) -> list[list[Match]]:
        return self._index.search(features, top, threshold)

    def close(self) -> None:
        self._read = None

    def _save(self, index: VectorIndex) -> None:
        self._read = None  # what cannot be written must not answer
        save_index(index, self.folder)
        self._read = index

    @property
    def _index(self) -> VectorIndex:
        if self._read is None:
            self._read = load_index(self.folder)
        return self._read


def check_place(folder: Path) -> None:
    """UsageError for a path that no directory can have."""
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # said where it is read or written
        pass
    except (OSError, ValueError) as error:
        raise path_problem(folder, error, error=UsageError, hint="name another directory for the index") from None


def load_index(folder: Path) -> VectorIndex:
    """Read an index whole; a directory that is replaced meanwhile is read again, so that no two generations mix.

    Raises UsageError when there is no index, DataError when it is damaged or its files do not belong together.
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
    raise EnvironmentProblem(f"{folder} is replaced again and again while it is read", hint="run the command again")


@contextlib.contextmanager
def _hold(folder: Path) -> Iterator[Callable[[], bool]]:
    """Yield a question: has `folder` been one and the same directory since?

    A change puts a new directory in its place, and never puts one back. While the former one is held open, no new one
    can get its number: what was read by path in between came from one generation.
    """
    try:
        held = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except (OSError, ValueError):  # not there, or it cannot be a directory's name: what reads it says so
        yield lambda: True
        return

    def is_still_there() -> bool:
        try:
            return os.path.samestat(os.fstat(held), os.stat(folder))
        except OSError:
            return False

    try:
        yield is_still_there
    finally:
        os.close(held)


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
    named = np.fromiter(labels, np.int64, len(labels))
    if not np.array_equal(np.sort(named), np.sort(content.ids)):
        raise DataError(f"{folder}: the ids of its vectors are not those of its items", hint=AGAIN)
    bits = -(-manifest.size // 8) * 8 if manifest.kind == "binary" else manifest.size
    after = int(content.ids.max(initial=-1)) + 1
    said = (manifest.kind, bits, manifest.count, content.metric if manifest.kind == "binary" else INNER_PRODUCT)
    if said != (content.kind, content.size, content.count, content.metric) or (manifest.next_id or 0) < after:
        raise DataError(f"{folder}: {MANIFEST} and {VECTORS} contradict each other", hint=AGAIN)
    return VectorIndex(manifest, read_faiss(file), labels, paths)


def _check_tie(file: Path, content: FaissFile, tie: Tie, ours: bool) -> None:
    """DataError when the vectors are not those that the manifest was written with."""
    with open_input(file) as data:
        data.seek(content.end)
        mark = data.read(len(MARK) + 64)
    if ours and mark != _mark(tie.generation):
        raise DataError(
            f"{file} was not written together with {MANIFEST} and {ITEMS} beside it",
            hint=[
                *AGAIN,
                f"; if another program has changed it, delete {MANIFEST} and {ITEMS}: its own map is read then",
            ],
        )


def _mark(generation: str) -> bytes:
    """What stands behind the vectors; faiss reads no further than they go."""
    return MARK + generation.encode() if generation else b""


def save_index(index: VectorIndex, folder: Path) -> None:
    """Put the index into `folder`, whole or not at all; UsageError when other files lie there."""
    refuse_foreign(folder)
    with atomic_dir(folder) as new:
        _write_files(index, new, index.labels)


def export_index(index: VectorIndex, folder: Path) -> list[str]:
    """Write `folder` for PaddleClas's deployment code (`id_map.pkl`) and PaddleX (`id_map.yaml`).

    Their code cuts an item at white space, so blanks in labels and paths become underscores; returns the labels
    that changed. Raises UsageError when other files lie there.
    """
    refuse_foreign(folder)
    changed = sorted({label for label in index.labels.values() if len(label.split()) != 1})
    plain = {n: "_".join(label.split()) or "_" for n, label in index.labels.items()}
    paths = {n: "_".join(path.split()) or "_" for n, path in index.paths.items()}
    with atomic_dir(folder) as new:
        _write_files(index, new, plain)
        with atomic_write(new / "id_map.pkl") as file:
            pickle.dump({n: f"{paths[n]}\t{label}" for n, label in plain.items()}, file)
    return changed


def refuse_foreign(folder: Path) -> None:
    """UsageError when `folder` is a file or holds files that no index has."""
    check_place(folder)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", hint="name a directory: --index index/")
    foreign = sorted(p.name for p in folder.iterdir() if p.name not in OURS) if folder.is_dir() else []
    if foreign:
        raise UsageError(
            f"{folder} holds other files ({', '.join(foreign[:3])})", hint="give the index a directory of its own"
        )


def _write_files(index: VectorIndex, folder: Path, labels: dict[int, str]) -> None:
    import faiss

    kind = index.manifest.kind
    write = faiss.write_index_binary if kind == "binary" else faiss.write_index
    items = write_items(folder / ITEMS, labels, index.paths)
    # Through our own writer: faiss's does not sync, and says little about a full disk.
    with atomic_write(folder / VECTORS) as file:
        summed = _Summed(file)
        write(index.faiss, faiss.PyCallbackIOWriter(summed.write))
        parts = json.dumps([items, summed.crc, summed.length, asdict(index.manifest)], sort_keys=True)
        generation = hashlib.sha256(parts.encode()).hexdigest()
        file.write(_mark(generation))
    with atomic_write(folder / "id_map.yaml", "w") as file:
        file.writelines(_yaml_lines(labels, kind))
    write_manifest(folder / MANIFEST, index.manifest, Tie(items, generation))


class _Summed:
    """Writes to a file, and knows the CRC-32 and the length of what it wrote."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.crc, self.length = file, 0, 0

    def write(self, data: bytes) -> int:
        self.crc = zlib.crc32(data, self.crc)
        self.length += len(data)
        return self.file.write(data)


def _yaml_lines(labels: dict[int, str], kind: str) -> Iterator[str]:
    """The map as PaddleX writes it; each label is put into YAML once, as a dumper needs a minute for a million."""
    dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    quoted: dict[str, str] = {}
    yield "id_map:\n"
    for n, label in labels.items():
        if label not in quoted:
            text = yaml.dump(plain_text(label), Dumper=dumper, default_style='"', allow_unicode=True, width=2**31 - 1)
            quoted[label] = text.rstrip("\n")
        yield f"  {n}: {quoted[label]}\n"
    yield f"index_type: {({'hnsw': 'HNSW32', 'ivf': 'IVF'}).get(kind, 'Flat')}\n"
    yield f"metric_type: {'hamming' if kind == 'binary' else 'IP'}\n"
