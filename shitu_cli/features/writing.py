"""Write features with their paths and labels as .npy with .tsv, .npz, .jsonl or .parquet: in pieces, flat in memory.

The same features give the same bytes: no file carries a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from shitu_cli.boundary import place_to_write
from shitu_cli.errors import ShituError, UsageError, require_package
from shitu_cli.features.origin import Origin, note_origin, noted_origins
from shitu_cli.files import atomic_write, leftovers, remove_leftovers, sha256_of

PIECE = 4096  # images of which the features are written at once
TABLE_HEADER = "path\tlabel\n"
SUFFIXES = (".npy", ".npz", ".jsonl", ".parquet")

Name = tuple[str, str]  # path and label of an image, one line of text each


@dataclass(frozen=True)
class FeatureRows:
    """Finished features in order: `shape` counts and measures them, `model` is the fingerprint of what made them.

    Relative paths of images start at `folder`. `names` yields the name of each image that could be read, `pieces` the
    features float32 [n, D] of each `PIECE` images with the names of those.
    """

    model: str
    folder: Path
    shape: tuple[int, int]
    names: Callable[[], Iterator[Name]]
    pieces: Callable[[], Iterator[tuple[list[Name], np.ndarray]]]


def check_out(out: Path) -> None:
    """Raise UsageError for an unknown suffix, or when the table beside a .npy is there and not one of ours."""
    if out.suffix not in SUFFIXES:
        raise UsageError(f"{out}: expected a name that ends in {', '.join(SUFFIXES)}", hint="--out features.npy")
    if out.suffix == ".parquet":
        require_package("pyarrow", "parquet", "parquet")
    table = out.with_suffix(".tsv")
    if out.suffix != ".npy" or not table.is_file():
        return
    with table.open("rb") as file:
        if file.read(len(TABLE_HEADER)) != TABLE_HEADER.encode():
            raise UsageError(f"{table} exists and was not written by this command", hint="--out another.npy")


def write_features(out: Path, rows: FeatureRows) -> list[Path]:
    """Write all files, and only then replace the former ones: first the note, then the table, then the array.

    The note tells by the hashes which table belongs to which array; a kill between the last two is made good by
    `complete_pair`.
    """
    writer: dict[str, Callable[[IO[Any], FeatureRows], None]] = {
        ".npy": _write_array,
        ".npz": _npz,
        ".jsonl": _jsonl,
        ".parquet": _parquet,
    }
    table = out.with_suffix(".tsv") if out.suffix == ".npy" else None
    complete_pair(out)
    for target in (out, *([] if table is None else [table])):
        remove_leftovers(target)
    with contextlib.ExitStack() as replacements:
        file = replacements.enter_context(atomic_write(out))
        writer[out.suffix](file, rows)
        digests = [_synced_digest(file)]
        if table is not None:
            lines = replacements.enter_context(atomic_write(table))
            lines.write(TABLE_HEADER.encode())
            lines.writelines(f"{path}\t{label}\n".encode() for path, label in rows.names())
            digests.append(_synced_digest(lines))
        table_digest = digests[1] if table is not None else ""
        note_origin(out, Origin(rows.model, digests[0], table_digest, os.path.relpath(rows.folder, out.parent)))
    return [out] if table is None else [out, table]


def complete_pair(out: Path) -> bool:
    """Move the array of a killed `write_features` into place if its table already is; return whether one was moved."""
    with contextlib.suppress(ShituError, OSError):  # the pair is refused then
        for left in leftovers(out):
            table, array = sha256_of(out.with_suffix(".tsv")), sha256_of(left)
            if any((origin.table_sha256, origin.sha256) == (table, array) for origin in noted_origins(out)):
                os.replace(left, place_to_write(out))
                return True
    return False


def _synced_digest(file: IO[Any]) -> str:
    """Return the SHA-256 of what was written, and put it on the disk: replacing takes no time then."""
    file.flush()
    os.fsync(file.fileno())
    digest = hashlib.sha256()
    at = 0
    while block := os.pread(file.fileno(), 1 << 20, at):
        digest.update(block)
        at += len(block)
    return digest.hexdigest()


def _write_array(file: IO[Any], rows: FeatureRows) -> None:
    np.lib.format.write_array_header_2_0(file, {"descr": "<f4", "fortran_order": False, "shape": rows.shape})
    for _, values in rows.pieces():
        file.write(np.ascontiguousarray(values, "<f4").tobytes())


def _npz(file: IO[Any], rows: FeatureRows) -> None:
    """Write what np.savez would, without the features in memory."""
    with zipfile.ZipFile(file, "w") as archive:
        # A ZipInfo carries no time; a name alone would get the present one.
        with archive.open(zipfile.ZipInfo("features.npy"), "w", force_zip64=True) as entry:
            _write_array(entry, rows)
        names = list(rows.names())
        for column, title in enumerate(("paths", "labels")):
            with archive.open(zipfile.ZipInfo(f"{title}.npy"), "w", force_zip64=True) as entry:
                texts = np.asarray([name[column] for name in names], None if names else "U1")
                np.lib.format.write_array(entry, texts, allow_pickle=False)


def _jsonl(file: IO[Any], rows: FeatureRows) -> None:
    for names, values in rows.pieces():
        for (path, label), feature in zip(names, values, strict=True):
            item = {"path": path, "label": label, "feature": feature.tolist()}
            file.write(json.dumps(item, ensure_ascii=False).encode() + b"\n")


def _parquet(file: IO[Any], rows: FeatureRows) -> None:
    import pyarrow
    import pyarrow.parquet

    size = rows.shape[1]
    kind = pyarrow.list_(pyarrow.float32(), size)
    schema = pyarrow.schema([("path", pyarrow.string()), ("label", pyarrow.string()), ("feature", kind)])
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for names, features in rows.pieces():
            values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(features.reshape(-1)), size)
            paths, labels = [path for path, _ in names], [label for _, label in names]
            writer.write_table(pyarrow.table([paths, labels, values], schema=schema))


def one_line(text: str) -> str:
    """Return one line of valid UTF-8, whatever the file's name."""
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return shown.replace("\t", " ").replace("\n", " ").replace("\r", " ")
