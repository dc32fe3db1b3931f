"""Indexes written by PaddleX and by PaddleClas's deployment code: their faiss file, their maps from id to label."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shitu_cli.errors import Command, DataError, EnvironmentProblem
from shitu_cli.index.faiss_file import INNER_PRODUCT, FaissFile, check_faiss
from shitu_cli.index.store import AGAIN, FeatureTable, IndexManifest
from shitu_cli.inputs import MIB, is_input
from shitu_cli.runtime.memory import require_room

MAX_MAP = 256 * MIB  # of pickles
MAX_DIGITS = 18  # of an id
BLOCK = 16 * MIB  # that faiss asks for at once


def read_faiss(path: Path) -> Any:
    """Return the faiss index in a file that `check_faiss` has passed."""
    import faiss

    require_room(path.stat().st_size, path)
    with path.open("rb") as file:
        binary = file.read(2) == b"IB"  # faiss names each class of index by four letters
        file.seek(0)
        source = faiss.PyCallbackIOReader(file.read, BLOCK)  # not its path, which faiss takes as UTF-8 only
        try:
            return (faiss.read_index_binary if binary else faiss.read_index)(source)
        except MemoryError:
            size = path.stat().st_size / 2**30
            raise EnvironmentProblem(
                f"not enough memory to read {path} ({size:.1f} GiB)",
                hint="close other programs, or use a machine with more memory",
            ) from None
        except RuntimeError as error:
            raise DataError(f"{path} is damaged: {str(error).splitlines()[0]}", hint=AGAIN) from None


def foreign_manifest(content: FaissFile, path: Path) -> IndexManifest:
    """Return the manifest of an index that has none of ours; its model is unknown ("").

    Raises DataError for an index that cannot be searched here: without ids, or by distance.
    """
    take_vectors = ("build one of its vectors: ", Command("index build", "--features", path))
    if content.ids is None:
        raise DataError(f"{path} has no ids", hint=take_vectors)
    if content.metric != INNER_PRODUCT and content.kind != "binary":
        raise DataError(f"{path} compares by distance, not by similarity", hint=take_vectors)
    after = int(content.ids.max(initial=-1)) + 1
    return IndexManifest(content.kind, content.size, "", content.count, after)


def foreign_items(folder: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Return labels and paths (PaddleX has none: "") by id, from `id_map.yaml` or `id_map.pkl`."""
    if is_input(folder / "id_map.yaml"):
        from shitu_cli.index.foreign_yaml import read_yaml_map

        labels = read_yaml_map(folder / "id_map.yaml")
        return labels, dict.fromkeys(labels, "")
    if is_input(folder / "id_map.pkl"):
        from shitu_cli.index.foreign_pickle import read_pickle_map

        return read_pickle_map(folder / "id_map.pkl")
    raise DataError(
        f"{folder}: the labels of its vectors are missing: there is no items.tsv, id_map.yaml or id_map.pkl", hint=AGAIN
    )


def foreign_vectors(path: Path) -> FeatureTable:
    """Return vectors float32 [N, D], labels and paths of a faiss file of any metric, to build an index from.

    Raises DataError if the file is damaged, holds only signs or lacks labels.
    """
    import faiss

    content = check_faiss(path)
    if content.kind == "binary":
        raise DataError(
            f"{path} holds only the signs of its vectors",
            hint=["name the images instead: ", Command("index build", "./gallery")],
        )
    labels, paths = foreign_items(path.parent)
    _check_labelled(content, labels, path)
    ids = range(content.count) if content.ids is None else content.ids.tolist()
    require_room(2 * content.count * content.size * 4, path)
    index = read_faiss(path)
    inner = index if content.ids is None else faiss.downcast_index(index.index)
    if content.kind == "ivf":
        inner.make_direct_map()
    return FeatureTable(inner.reconstruct_n(0, content.count), [labels[n] for n in ids], [paths[n] for n in ids])


def _check_labelled(content: FaissFile, labels: Mapping[int, str], path: Path) -> None:
    """Raise DataError unless every vector has a label; takes no more memory than the labels, whatever the file says."""
    ids: Any = range(content.count) if content.ids is None else content.ids
    first = next((n for n in ids[: len(labels) + 1] if n not in labels), None)  # of more ids than labels, one has none
    if first is None:
        return
    has_ids = content.ids is not None
    labelled = int(np.isin(list(labels), ids).sum()) if has_ids else sum(n < content.count for n in labels)
    raise DataError(f"{path}: {content.count - labelled} vectors have no label, such as number {first}", hint=AGAIN)


def map_id(key: Any, file: Path) -> int:
    """Return an id of a map: a whole number, which some programs write as text."""
    text = str(key) if type(key) in (int, str) else ""
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise DataError(f"{file} is damaged: {str(key)[:40]!r} is not an id", hint=AGAIN)
    return int(text)


def map_text(value: Any, file: Path) -> str:
    """Return a label of a map: text, or what YAML reads as something else (a number, a date, yes)."""
    if isinstance(value, (dict, list, tuple, set, bytes)):
        raise DataError(f"{file} is damaged: a {type(value).__name__} is not a label", hint=AGAIN)
    return str(value)
