"""Feature vectors of many images in a file, written in pieces: flat in memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from shitu_cli.errors import MACHINE_HINTS, DataError, EnvironmentProblem, UsageError, pip_install
from shitu_cli.features.extractor import Extractor
from shitu_cli.features.origin import Origin, note_origin
from shitu_cli.features.resumable import Work
from shitu_cli.files import atomic_write, remove_leftovers
from shitu_cli.preparation.sources import ImageFiles
from shitu_cli.reporting import Reporter

PIECE = 4096  # rows written at once
TABLE_HEADER = "path\tlabel\n"
SUFFIXES = (".npy", ".npz", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Written:
    """`skipped` path → reason of images that are not in the files."""

    files: list[Path]
    count: int
    skipped: dict[str, str]


def extract_to_file(
    extractor: Extractor, images: ImageFiles, out: Path, reporter: Reporter, *, normalize: bool = True
) -> Written:
    """Compute and write; what an interrupted call, or other processes, have done already is taken over.

    Raises UsageError for an unknown suffix, EnvironmentProblem when the disk refuses.
    """
    check_out(out)
    part = part_of(out)
    try:
        with Work(part, extractor, images, normalize=normalize) as work:
            work.compute(reporter)
            skipped = {n: why for block in work.done().values() for n, why in block.items()}
            if len(skipped) == len(images):
                first = [*skipped.values()][:10]
                raise DataError(f"none of the images could be read ({len(images):,} tried)", details=first)
            files = _write(out, _Rows(work, images, skipped))
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write {out}: {error.strerror or error}",
            hint=_way_on(error),
        ) from None
    shutil.rmtree(part, ignore_errors=True)
    reasons = {images.name(n): why.removeprefix(f"{images.files[n]}: ") for n, why in sorted(skipped.items())}
    return Written(files, len(images) - len(skipped), reasons)


def compute_share(
    extractor: Extractor,
    images: ImageFiles,
    out: Path,
    reporter: Reporter,
    *,
    normalize: bool = True,
    rank: int,
    world: int,
) -> None:
    """Compute the share of one of several processes; `extract_to_file` then finds it done."""
    try:
        with Work(part_of(out), extractor, images, normalize=normalize) as work:
            work.compute(reporter, rank=rank, world=world)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write beside {out}: {error.strerror or error}",
            hint=_way_on(error),
        ) from None


def _way_on(error: OSError) -> str:
    """Return what to do about a refusal, which is not always a full disk."""
    todo = MACHINE_HINTS.get(error.errno or 0, "see that it can be written there")
    return f"{todo}; the same command continues from there"


def part_of(out: Path) -> Path:
    """Return where unfinished work lies: beside the file that it will become."""
    return out.with_name(f".{out.name}.part")


def check_out(out: Path) -> None:
    """UsageError for an unknown suffix, or when the table beside a .npy is there and not one of ours."""
    if out.suffix not in SUFFIXES:
        raise UsageError(f"{out}: expected a name that ends in {', '.join(SUFFIXES)}", hint="--out features.npy")
    if out.suffix == ".parquet":
        _require_pyarrow()
    table = out.with_suffix(".tsv")
    if out.suffix != ".npy" or not table.is_file():
        return
    with table.open("rb") as file:
        if file.readline() != TABLE_HEADER.encode():
            raise UsageError(f"{table} is there already and not from this command", hint="--out another.npy")


@dataclass(frozen=True)
class _Rows:
    """The finished features without those of `skipped` images."""

    work: Work
    images: ImageFiles
    skipped: dict[int, str]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.images) - len(self.skipped), self.work.extractor.feature_size

    def numbers(self) -> Iterator[int]:
        return (n for n in range(len(self.images)) if n not in self.skipped)

    def paths(self) -> Iterator[str]:
        return (_plain(self.images.name(n)) for n in self.numbers())

    def labels(self) -> Iterator[str]:
        return (self.label(n) for n in self.numbers())

    def label(self, number: int) -> str:
        return _plain(self.images.labels[number])

    def pieces(self) -> Iterator[tuple[list[int], np.ndarray]]:
        """Numbers of images and their features, in order."""
        for start in range(0, len(self.images), PIECE):
            stop = min(start + PIECE, len(self.images))
            kept = [n for n in range(start, stop) if n not in self.skipped]
            yield kept, self.work.read(start, stop)[np.asarray(kept, np.int64) - start]


def _write(out: Path, rows: _Rows) -> list[Path]:
    """Write all files, and only then replace the former ones: the note first, which tells any mixture by the hashes."""
    writer: dict[str, Callable[[IO[Any], _Rows], None]] = {
        ".npy": _write_array,
        ".npz": _npz,
        ".jsonl": _jsonl,
        ".parquet": _parquet,
    }
    table = out.with_suffix(".tsv") if out.suffix == ".npy" else None
    for target in (out, *([] if table is None else [table])):
        remove_leftovers(target)
    with contextlib.ExitStack() as replacements:
        file = replacements.enter_context(atomic_write(out))
        writer[out.suffix](file, rows)
        digests = [_synced_digest(file)]
        if table is not None:
            lines = replacements.enter_context(atomic_write(table))
            lines.write(TABLE_HEADER.encode())
            pairs = zip(rows.paths(), rows.labels(), strict=True)
            lines.writelines(f"{path}\t{label}\n".encode() for path, label in pairs)
            digests.append(_synced_digest(lines))
        note_origin(out, Origin(rows.work.extractor.fingerprint, *digests))
    return [out] if table is None else [out, table]


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


def _write_array(file: IO[Any], rows: _Rows) -> None:
    np.lib.format.write_array_header_2_0(file, {"descr": "<f4", "fortran_order": False, "shape": rows.shape})
    for _, values in rows.pieces():
        file.write(np.ascontiguousarray(values, "<f4").tobytes())


def _npz(file: IO[Any], rows: _Rows) -> None:
    """Write what np.savez would, without the features in memory."""
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open("features.npy", "w", force_zip64=True) as entry:
            _write_array(entry, rows)
        for name, values in (("paths", rows.paths()), ("labels", rows.labels())):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(list(values)), allow_pickle=False)


def _jsonl(file: IO[Any], rows: _Rows) -> None:
    for numbers, values in rows.pieces():
        for n, feature in zip(numbers, values, strict=True):
            item = {"path": _plain(rows.images.name(n)), "label": rows.label(n), "feature": feature.tolist()}
            file.write(json.dumps(item, ensure_ascii=False).encode() + b"\n")


def _parquet(file: IO[Any], rows: _Rows) -> None:
    import pyarrow
    import pyarrow.parquet

    size = rows.shape[1]
    kind = pyarrow.list_(pyarrow.float32(), size)
    schema = pyarrow.schema([("path", pyarrow.string()), ("label", pyarrow.string()), ("feature", kind)])
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for numbers, features in rows.pieces():
            values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(features.reshape(-1)), size)
            paths = [_plain(rows.images.name(n)) for n in numbers]
            labels = [rows.label(n) for n in numbers]
            writer.write_table(pyarrow.table([paths, labels, values], schema=schema))


def _require_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise EnvironmentProblem("parquet needs the package pyarrow", hint=pip_install("parquet")) from None


def _plain(text: str) -> str:
    """Return one line of valid UTF-8, whatever the file's name."""
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return shown.replace("\t", " ").replace("\n", " ").replace("\r", " ")
