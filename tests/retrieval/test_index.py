"""The vector index: exact against numpy, approximate ones as good as asked, safe against what others wrote."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import faiss
import numpy as np
import pytest
import yaml

from shitu_cli.errors import DataError, UsageError
from shitu_cli.retrieval.index import KINDS, VectorIndex


def vectors(count: int, size: int = 24, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, count // 10), size))
    x = centres[rng.integers(0, len(centres), count)] + 0.4 * rng.standard_normal((count, size))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def make(count: int = 300, kind: str = "flat", **more: object) -> VectorIndex:
    labels = [f"class {n % 7}" for n in range(count)]
    return VectorIndex.build(vectors(count), labels, [f"p/{n}.jpg" for n in range(count)], kind=kind, **more)  # type: ignore[arg-type]


def test_flat_is_exact() -> None:
    index, queries = make(), vectors(20, seed=5)
    similarity = queries @ vectors(300).T
    for matches, row in zip(index.search(queries, 7), similarity, strict=True):
        order = np.argsort(-row, kind="stable")[:7]
        assert [m.id for m in matches] == order.tolist()
        assert np.allclose([m.score for m in matches], row[order], atol=1e-6)
        assert matches[0].path == f"p/{order[0]}.jpg" and matches[0].label == f"class {order[0] % 7}"


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_approximate_kinds_reach_their_recall(kind: str) -> None:
    index = make(3000, kind, recall=0.95)
    assert index.manifest.recall is not None and index.manifest.recall >= 0.95
    noise = np.random.default_rng(9).standard_normal((100, 24)).astype(np.float32)
    queries = vectors(3000)[::30] + 0.1 * noise
    exact = make(3000).search(queries, 1)
    same = np.mean([a[0].id == b[0].id for a, b in zip(index.search(queries, 1), exact, strict=True)])
    assert same > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_save_load_add_remove(kind: str, tmp_path: Path) -> None:
    original = make(200, kind)
    original.save(tmp_path / "i")
    index = VectorIndex.load(tmp_path / "i")
    queries = vectors(5, seed=3)
    assert index.search(queries, 3) == original.search(queries, 3) == make(200, kind).search(queries, 3)
    gone = [m[0].id for m in index.search(queries, 1)]
    smaller = index.remove(gone)
    assert len(smaller) == 200 - len(set(gone))
    assert not {m.id for row in smaller.search(queries, 5) for m in row} & set(gone)
    more = smaller.add(queries, ["new"] * 5, [f"q{n}" for n in range(5)])
    assert sorted(more.labels)[-5:] == list(range(200, 205))
    assert [row[0].label for row in more.search(queries, 1)] == ["new"] * 5
    again = more.add(queries[:1], ["newer"], ["q0"])  # the same path is replaced
    assert len(again) == len(more) and again.search(queries[:1], 1)[0][0].label == "newer"


def test_threshold_leaves_out() -> None:
    index = make()
    first = vectors(300)[:1]
    assert [m.id for m in index.search(first, 5, threshold=0.9999)[0]] == [0]
    assert index.search(-first, 5, threshold=0.9999) == [[]]


def test_wrong_input(tmp_path: Path) -> None:
    index = make(50)
    with pytest.raises(DataError, match="25 values, the index 24"):
        index.search(np.ones((1, 25), np.float32))
    with pytest.raises(DataError, match="not finite"):
        VectorIndex.build(np.full((1, 3), np.nan, np.float32), ["a"], ["b"])
    with pytest.raises(UsageError, match="expected one of"):
        make(10, "annoy")
    with pytest.raises(UsageError, match="empty"):
        index.remove(list(range(50)))
    with pytest.raises(UsageError, match="no index"):
        VectorIndex.load(tmp_path)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match=r"mine\.txt"):
        index.save(tmp_path)


def test_damage_is_named(tmp_path: Path) -> None:
    make(50).save(tmp_path / "i")
    items = (tmp_path / "i/items.tsv").read_text()
    (tmp_path / "i/items.tsv").write_text(items.rpartition("49\t")[0])
    with pytest.raises(DataError, match="50 vectors, but 49 items"):
        VectorIndex.load(tmp_path / "i")
    (tmp_path / "i/items.tsv").write_text(items)
    data = (tmp_path / "i/vector.index").read_bytes()
    (tmp_path / "i/vector.index").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="damaged"):
        VectorIndex.load(tmp_path / "i")


def test_labels_and_paths_of_any_text(tmp_path: Path) -> None:
    labels, paths = ["a\tb", "c\\t\nd", "红 色"], ["x\\y", "\t", "z\u2028w"]
    VectorIndex.build(vectors(3), labels, paths).save(tmp_path / "i")
    loaded = VectorIndex.load(tmp_path / "i")
    assert list(loaded.labels.values()) == labels and list(loaded.paths.values()) == paths


def test_other_programs_read_it_and_it_reads_theirs(tmp_path: Path) -> None:
    index = make(60)
    changed = index.export(tmp_path / "out")
    assert changed[0] == "class 0"
    theirs = faiss.read_index(str(tmp_path / "out/vector.index"))
    with (tmp_path / "out/id_map.pkl").open("rb") as file:
        lookup = pickle.load(file)
    names = yaml.safe_load((tmp_path / "out/id_map.yaml").read_text())
    assert (
        names["index_type"] == "Flat" and names["metric_type"] == "IP" and theirs.ntotal == len(names["id_map"]) == 60
    )
    found = int(theirs.search(vectors(60)[7:8], 1)[1][0, 0])
    assert lookup[found].split()[1] == names["id_map"][found] == "class_0" and found == 7
    for name in ("items.tsv", "manifest.json"):
        (tmp_path / "out" / name).unlink()
    loaded = VectorIndex.load(tmp_path / "out")
    assert loaded.search(vectors(60)[7:8], 1)[0][0].label == "class_0"


def test_a_pickled_map_is_never_opened(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'pwned'}",)

    make(20).save(tmp_path / "i")
    for name in ("items.tsv", "manifest.json", "id_map.yaml"):
        (tmp_path / "i" / name).unlink()
    (tmp_path / "i/id_map.pkl").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DataError, match="not opened"):
        VectorIndex.load(tmp_path / "i")
    assert not (tmp_path / "pwned").exists()


def test_saving_replaces_the_whole_directory(tmp_path: Path) -> None:
    make(30).save(tmp_path / "i")
    make(40).save(tmp_path / "i")
    assert json.loads((tmp_path / "i/manifest.json").read_text())["count"] == 40
    assert [p.name for p in tmp_path.iterdir()] == ["i"]
