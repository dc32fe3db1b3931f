"""Feature files are read back as they were written; what does not fit is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.errors import DataError, UsageError
from shitu_cli.index.sources import read_features
from tests.index.made import vectors

PATHS, LABELS = ["a b.jpg", "红.jpg", "c.jpg"], ["x", "", "red apple"]


def write(file: Path, features: np.ndarray) -> None:
    """As `shitu extract` writes them."""
    if file.suffix == ".npy":
        np.save(file, features)
        lines = [f"{path}\t{label}\n" for path, label in zip(PATHS, LABELS, strict=True)]
        file.with_suffix(".tsv").write_text("path\tlabel\n" + "".join(lines))
    elif file.suffix == ".npz":
        np.savez(file, features=features, paths=np.asarray(PATHS), labels=np.asarray(LABELS))
    elif file.suffix == ".jsonl":
        rows = zip(PATHS, LABELS, features.tolist(), strict=True)
        file.write_text("".join(json.dumps({"path": p, "label": n, "feature": f}) + "\n" for p, n, f in rows))
    else:
        pyarrow = pytest.importorskip("pyarrow", reason="parquet is an extra")
        import pyarrow.parquet as parquet

        values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(features.reshape(-1)), features.shape[1])
        parquet.write_table(pyarrow.table({"path": PATHS, "label": LABELS, "feature": values}), file)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".jsonl", ".parquet"])
def test_every_format(suffix: str, tmp_path: Path) -> None:
    features = vectors(3)
    write(tmp_path / f"f{suffix}", features)
    table = read_features(tmp_path / f"f{suffix}")
    assert np.array_equal(table.features, features) and table.features.dtype == np.float32
    assert list(table.labels) == LABELS and list(table.paths) == PATHS


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".jsonl", ".parquet", ".index"])
def test_damage_is_named(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"f{suffix}"
    if suffix == ".index":
        file.write_bytes(b"IxM2")
    else:
        write(file, vectors(3))
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=rf"f\{suffix}"):
        read_features(file)


def test_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ends in"):
        read_features(tmp_path / "f.csv")
    with pytest.raises(UsageError, match="no such file"):
        read_features(tmp_path / "f.npy")
    write(tmp_path / "f.npy", vectors(3))
    np.save(tmp_path / "f.npy", vectors(4))
    with pytest.raises(DataError, match=r"4 vectors, but 3 lines in f\.tsv"):
        read_features(tmp_path / "f.npy")
    np.save(tmp_path / "f.npy", np.arange(3))
    with pytest.raises(DataError, match="rows of real numbers"):
        read_features(tmp_path / "f.npy")
    write(tmp_path / "f.jsonl", vectors(3))
    lines = (tmp_path / "f.jsonl").read_text().splitlines()
    (tmp_path / "f.jsonl").write_text("\n".join([*lines, '{"path": "d", "feature": [1, 2]}']))
    with pytest.raises(DataError, match=r"f\.jsonl:4: 2 values, expected 24"):
        read_features(tmp_path / "f.jsonl")
    (tmp_path / "f.jsonl").write_text("")
    with pytest.raises(DataError, match="no vectors"):
        read_features(tmp_path / "f.jsonl")


def test_a_npy_stays_on_disk(tmp_path: Path) -> None:
    write(tmp_path / "f.npy", vectors(3))
    assert isinstance(read_features(tmp_path / "f.npy").features, np.memmap)
