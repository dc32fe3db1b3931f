"""The index as a directory that this program, PaddleX and PaddleClas's deployment code can read.

`vector.index` (faiss, ids mapped), `id_map.yaml` (PaddleX's), `items.tsv` (id, label, path), `manifest.json`. Every
change writes a new directory beside the old one and swaps them in one step.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from shitu_cli.errors import DataError, UsageError
from shitu_cli.files import atomic_dir, atomic_write, atomic_write_json
from shitu_cli.index.foreign import foreign_items, foreign_manifest, read_faiss
from shitu_cli.index.store import (
    BuildOptions,
    FeatureTable,
    IndexManifest,
    Item,
    Match,
    check_kind,
    plain_text,
)
from shitu_cli.index.vectors import VectorIndex
from shitu_cli.reporting import Reporter
from shitu_cli.workspace import Workspace

FORMAT = 1
VECTORS = "vector.index"
ITEMS = "items.tsv"
MANIFEST = "manifest.json"
OURS = {VECTORS, ITEMS, MANIFEST, "id_map.yaml", "id_map.pkl"}
ESCAPES = {"t": "\t", "n": "\n", "r": "\r"}


class FileStore:
    """The index in `folder`: read whole at the first question, written whole at each change."""

    def __init__(self, folder: Path) -> None:
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


def load_index(folder: Path) -> VectorIndex:
    """Raises UsageError when there is no index, DataError when it is damaged or incomplete."""
    if not (folder / VECTORS).is_file():
        raise UsageError(f"no index in {folder}", hint="shitu index build")
    index = read_faiss(folder / VECTORS)
    manifest = _read_manifest(folder / MANIFEST) or foreign_manifest(index, folder / VECTORS)
    labels, paths = _read_items(folder / ITEMS) or foreign_items(folder)
    if index.ntotal != len(labels):
        raise DataError(
            f"{folder}: {index.ntotal} vectors, but {len(labels)} items in its table", hint="shitu index build"
        )
    return VectorIndex(manifest, index, labels, paths)


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
    # Through our own writer: faiss's does not sync, and says little about a full disk.
    with atomic_write(folder / VECTORS) as file:
        write(index.faiss, faiss.PyCallbackIOWriter(file.write))
    with atomic_write(folder / "id_map.yaml", "w") as file:
        file.writelines(_yaml_lines(labels, kind))
    with atomic_write(folder / ITEMS, "w") as file:
        file.writelines(f"{n}\t{_field(label)}\t{_field(index.paths[n])}\n" for n, label in labels.items())
    atomic_write_json(folder / MANIFEST, {"format": FORMAT, **asdict(index.manifest)})


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


def _field(text: str) -> str:
    return plain_text(text).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _unfield(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: ESCAPES.get(found[1], found[1]), text) if "\\" in text else text


def _read_items(file: Path) -> tuple[dict[int, str], dict[int, str]] | None:
    """Labels and paths by id; None where the file is not: another program's index."""
    labels: dict[int, str] = {}
    paths: dict[int, str] = {}
    known: dict[str, str] = {}  # a label is kept once, however many pictures have it
    try:
        for line in file.read_text(encoding="utf-8").rstrip("\n").split("\n"):
            number, label, path = line.split("\t")
            labels[int(number)] = known.setdefault(label, _unfield(label))
            paths[int(number)] = _unfield(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is damaged: {error}", hint="shitu index build") from None
    return labels, paths


def _read_manifest(file: Path) -> IndexManifest | None:
    """None where the file is not: another program's index."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            raise DataError(f"{file}: written by another version", hint="build it anew: shitu index build")
        return IndexManifest(**values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is damaged: {error}", hint="build it anew: shitu index build") from None
