"""Indexes of PaddleX and PaddleClas are read as they are; a pickle never runs anything."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import faiss
import numpy as np
import pytest
import yaml

from shitu_cli.errors import DataError
from shitu_cli.index.files import load_index, save_index
from shitu_cli.index.sources import read_features
from shitu_cli.index.store import FeatureTable
from tests.index.made import vectors


def write_theirs(folder: Path, factory: str = "Flat", metric: int = faiss.METRIC_INNER_PRODUCT) -> np.ndarray:
    """`vector.index` as PaddleX's and PaddleClas's code makes it, ids 10, 11, …"""
    folder.mkdir(exist_ok=True)
    x = vectors(80)
    index = faiss.IndexIDMap2(faiss.index_factory(24, factory, metric))
    index.train(x)
    index.add_with_ids(x, np.arange(10, 90))
    faiss.write_index(index, str(folder / "vector.index"))
    return x


def write_yaml(folder: Path, labels: dict[int, object]) -> None:
    (folder / "id_map.yaml").write_text(yaml.dump({"id_map": labels, "index_type": "Flat", "metric_type": "IP"}))


@pytest.mark.parametrize(("factory", "kind"), [("Flat", "flat"), ("HNSW32", "hnsw"), ("IVF2,Flat", "ivf")])
def test_paddlex(factory: str, kind: str, tmp_path: Path) -> None:
    x = write_theirs(tmp_path, factory)
    write_yaml(tmp_path, {n: n % 5 for n in range(10, 90)})  # labels that look like numbers
    index = load_index(tmp_path)
    assert index.manifest.kind == kind and index.manifest.next_id == 90 and index.manifest.model == ""
    best = index.search(x[7:8], 1)[0][0]
    assert (best.id, best.label, best.path) == (17, "2", "")
    index.add(FeatureTable(vectors(1, seed=3), ["new"], ["new.jpg"]))
    index.remove([17])
    save_index(index, tmp_path)
    assert len(load_index(tmp_path)) == 80 and load_index(tmp_path).labels[90] == "new"


@pytest.mark.parametrize("key", [int, np.int64])  # PaddleClas writes numpy's
def test_paddleclas(key: type, tmp_path: Path) -> None:
    x = write_theirs(tmp_path)
    lines = {key(n): f"gallery/{n}.jpg\tred {n}" for n in range(10, 90)}
    for protocol in range(3, pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "id_map.pkl").write_bytes(pickle.dumps(lines, protocol))
        best = load_index(tmp_path).search(x[7:8], 1)[0][0]
        assert (best.id, best.label, best.path) == (17, "red", "gallery/17.jpg")  # cut where their code cuts it


def test_a_pickle_never_runs_anything(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'pwned'}",)

    write_theirs(tmp_path)
    for value in (Evil(), {1: Evil()}, np.dtype("O"), np.float32(1), [1], {1: np.datetime64(1, "s")}):
        (tmp_path / "id_map.pkl").write_bytes(pickle.dumps(value))
        with pytest.raises(DataError, match="not a plain map"):
            load_index(tmp_path)
    assert not (tmp_path / "pwned").exists()
    for damaged in (b"", b"\x80", b"nonsense", pickle.dumps({1: "a b"})[:-3]):
        (tmp_path / "id_map.pkl").write_bytes(damaged)
        with pytest.raises(DataError, match="not a plain map"):
            load_index(tmp_path)
    (tmp_path / "id_map.pkl").write_bytes(pickle.dumps({1: "word"}))
    with pytest.raises(DataError, match="damaged"):
        load_index(tmp_path)


def test_what_cannot_be_asked_says_how_to_take_its_vectors(tmp_path: Path) -> None:
    x = write_theirs(tmp_path, metric=faiss.METRIC_L2)
    write_yaml(tmp_path, dict.fromkeys(range(10, 90), "a"))
    with pytest.raises(DataError, match="compares by distance, not by similarity") as caught:
        load_index(tmp_path)
    assert caught.value.hint and "shitu index build --features" in caught.value.hint
    table = read_features(tmp_path / "vector.index").table
    assert np.array_equal(table.features, x) and list(table.labels) == ["a"] * 80
    flat = faiss.IndexFlatIP(24)
    flat.add(x)
    faiss.write_index(flat, str(tmp_path / "vector.index"))
    with pytest.raises(DataError, match="has no ids"):
        load_index(tmp_path)
    with pytest.raises(DataError, match="10 vectors have no label, such as number 0"):
        read_features(tmp_path / "vector.index")
    write_yaml(tmp_path, {n: str(n) for n in range(80)})
    assert list(read_features(tmp_path / "vector.index").table.labels)[79] == "79"


def test_a_binary_index_of_paddlex(tmp_path: Path) -> None:
    x = vectors(30)
    index = faiss.IndexBinaryIDMap2(faiss.IndexBinaryFlat(24))
    index.add_with_ids(np.packbits(x >= 0, axis=1), np.arange(30))
    faiss.write_index_binary(index, str(tmp_path / "vector.index"))
    write_yaml(tmp_path, {n: str(n) for n in range(30)})
    assert load_index(tmp_path).search(x[4:5], 1)[0][0].score == 1.0
    with pytest.raises(DataError, match="only the signs"):
        read_features(tmp_path / "vector.index")


def test_without_a_map_the_files_are_named(tmp_path: Path) -> None:
    write_theirs(tmp_path)
    with pytest.raises(DataError, match=r"no items\.tsv, id_map\.yaml or id_map\.pkl"):
        load_index(tmp_path)
    (tmp_path / "id_map.yaml").write_text("id_map: [1, 2]")
    with pytest.raises(DataError, match="damaged"):
        load_index(tmp_path)
