"""Feature vectors of many pictures in a file: written in pieces that survive an interruption, flat in memory."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shitu_cli.data.sources import Pictures
from shitu_cli.errors import DataError, EnvironmentProblem, UsageError
from shitu_cli.infer.extractor import Extractor, pictures_of
from shitu_cli.reporting import Reporter
from shitu_cli.workspace import atomic_write, atomic_write_json, atomic_write_text

SAVE_EVERY = 4096  # pictures between two notes of how far we are
TABLE_HEADER = "path\tlabel\n"
SUFFIXES = (".npy", ".npz", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Written:
    """`skipped` path → reason of pictures that are not in the files."""

    files: list[Path]
    count: int
    skipped: dict[str, str]


def extract_to_file(
    extractor: Extractor,
    pictures: Pictures,
    out: Path,
    reporter: Reporter,
    *,
    batch_size: int = 32,
    normalize: bool = True,
) -> Written:
    """Compute and write; what an interrupted call has done already is taken over.

    Raises UsageError for an unknown suffix, EnvironmentProblem when the disk refuses.
    """
    if out.suffix not in SUFFIXES:
        raise UsageError(f"{out}: expected a name that ends in {', '.join(SUFFIXES)}", hint="--out features.npy")
    if out.suffix == ".parquet":
        _require_pyarrow()
    _keep_files_of_others(out)
    # Unfinished work lies beside the file that it will become.
    part = out.with_name(f".{out.name}.part")
    key = _key(extractor, pictures, normalize)
    try:
        part.mkdir(parents=True, exist_ok=True)
        features, done, skipped = _open(part, key, (len(pictures), extractor.feature_size))
        with reporter.progress("extracting", len(pictures) - done) as bar:
            noted = done
            for indices, values, unread in extractor.batches(
                pictures_of(pictures), start=done, batch_size=batch_size, normalize=normalize
            ):
                features[indices] = values
                skipped |= {str(n): why for n, why in unread.items()}
                done += len(indices) + len(unread)
                bar.advance(len(indices) + len(unread))
                if done - noted >= SAVE_EVERY:
                    features.flush()
                    atomic_write_json(part / "done.json", {"key": key, "done": done, "skipped": skipped})
                    noted = done
        if len(skipped) == len(pictures):
            raise DataError(f"none of the {len(pictures)} pictures can be read", details=list(skipped.values())[:10])
        rows = np.asarray([n for n in range(len(pictures)) if str(n) not in skipped], np.int64)
        files = _write(out, features, rows, pictures)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write {out}: {error.strerror or error}",
            hint="free some space; the same command goes on from there",
        ) from None
    del features
    shutil.rmtree(part, ignore_errors=True)
    return Written(files, len(rows), {pictures.files[int(n)]: why for n, why in skipped.items()})


def _keep_files_of_others(out: Path) -> None:
    """The table beside a .npy is replaced only where it is one of ours."""
    table = out.with_suffix(".tsv")
    if out.suffix != ".npy" or not table.is_file():
        return
    with table.open("rb") as file:
        if file.readline() != TABLE_HEADER.encode():
            raise UsageError(f"{table} is there already and not from this command", hint="--out another.npy")


def _key(extractor: Extractor, pictures: Pictures, normalize: bool) -> str:
    digest = hashlib.sha256(f"{extractor.fingerprint}|{normalize}|{len(pictures)}".encode())
    for number in range(len(pictures)):
        digest.update(pictures.name(number).encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def _open(part: Path, key: str, shape: tuple[int, int]) -> tuple[np.memmap, int, dict[str, str]]:
    """The array on disk and how much of it is done."""
    array = part / "features.npy"
    try:
        state = json.loads((part / "done.json").read_text(encoding="utf-8"))
        if state["key"] == key:
            kept = np.lib.format.open_memmap(array, mode="r+")
            if kept.shape == shape:
                return kept, int(state["done"]), dict(state["skipped"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return np.lib.format.open_memmap(array, mode="w+", dtype=np.float32, shape=shape), 0, {}


def _write(out: Path, features: np.ndarray, rows: np.ndarray, pictures: Pictures) -> list[Path]:
    writer: dict[str, Callable[..., list[Path]]] = {
        ".npy": _npy,
        ".npz": _npz,
        ".jsonl": _jsonl,
        ".parquet": _parquet,
    }
    return writer[out.suffix](out, features, rows, pictures)


def _npy(out: Path, features: np.ndarray, rows: np.ndarray, pictures: Pictures) -> list[Path]:
    with atomic_write(out) as file:
        np.lib.format.write_array_header_2_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (len(rows), features.shape[1])}
        )
        for start in range(0, len(rows), SAVE_EVERY):
            file.write(np.ascontiguousarray(features[rows[start : start + SAVE_EVERY]], "<f4").tobytes())
    table = out.with_suffix(".tsv")
    lines = (f"{_plain(pictures.name(n))}\t{_plain(pictures.labels[n])}\n" for n in rows)
    atomic_write_text(table, TABLE_HEADER + "".join(lines))
    return [out, table]


def _npz(out: Path, features: np.ndarray, rows: np.ndarray, pictures: Pictures) -> list[Path]:
    with atomic_write(out) as file:
        paths = np.asarray([_plain(pictures.name(n)) for n in rows])
        labels = np.asarray([_plain(pictures.labels[n]) for n in rows])
        np.savez(file, features=features[rows], paths=paths, labels=labels)
    return [out]


def _jsonl(out: Path, features: np.ndarray, rows: np.ndarray, pictures: Pictures) -> list[Path]:
    def lines() -> Iterator[str]:
        for n in rows:
            item = {"path": _plain(pictures.name(n)), "label": pictures.labels[n], "feature": features[n].tolist()}
            yield json.dumps(item, ensure_ascii=False) + "\n"

    with atomic_write(out, "w") as file:
        file.writelines(lines())
    return [out]


def _parquet(out: Path, features: np.ndarray, rows: np.ndarray, pictures: Pictures) -> list[Path]:
    import pyarrow
    import pyarrow.parquet

    size = features.shape[1]
    kind = pyarrow.list_(pyarrow.float32(), size)
    schema = pyarrow.schema([("path", pyarrow.string()), ("label", pyarrow.string()), ("feature", kind)])
    with atomic_write(out) as file, pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, len(rows), SAVE_EVERY):
            some = rows[start : start + SAVE_EVERY]
            values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(features[some].reshape(-1)), size)
            paths = [_plain(pictures.name(n)) for n in some]
            writer.write_table(pyarrow.table([paths, [pictures.labels[n] for n in some], values], schema=schema))
    return [out]


def _require_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise EnvironmentProblem("parquet needs the package pyarrow", hint="pip install 'shitu-cli[parquet]'") from None


def _plain(text: str) -> str:
    """One line of valid UTF-8, whatever the file's name."""
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return shown.replace("\t", " ").replace("\n", " ").replace("\r", " ")
