"""A small flat index: scores follow from two vectors alone, whatever is compared beside them, and need no faiss."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from shitu_cli.errors import UsageError
from shitu_cli.features.unit_length import normalized
from shitu_cli.index import files
from shitu_cli.index.files import load_index, save_index
from shitu_cli.index.flat import FlatVectors
from shitu_cli.index.store import FeatureTable, Match
from shitu_cli.index.vectors import VectorIndex
from tests.index.made import gallery, make, vectors


def expected(query: np.ndarray, gallery: np.ndarray, top: int) -> list[tuple[int, float]]:
    """Ids and scores by float64, rounded once."""
    scores = (gallery.astype(np.float64) * query).sum(axis=1).astype(np.float32)
    best = np.lexsort((np.arange(len(gallery)), -scores))[:top]
    return [(int(n), float(scores[n])) for n in best]


def pairs(matches: list[Match]) -> list[tuple[int, float]]:
    return [(match.id, match.score) for match in matches]


@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-7, 0.0])
def test_scores_are_the_same_in_any_company(spread: float, tmp_path: Path) -> None:
    """Also where features nearly coincide, and rounding of a product of matrices would decide the order."""
    rng = np.random.default_rng(0)
    rows = normalized((vectors(1) + spread * rng.standard_normal((400, 24))).astype(np.float32))
    queries = normalized((vectors(1) + spread * rng.standard_normal((30, 24))).astype(np.float32))
    index = VectorIndex.build(FeatureTable(rows, ["a"] * 400, [str(n) for n in range(400)]))
    save_index(index, tmp_path / "i")
    together = [pairs(matches) for matches in index.search(queries, 7)]
    assert together == [expected(query, rows, 7) for query in queries]
    assert [pairs(matches) for matches in load_index(tmp_path / "i").search(queries, 7)] == together
    assert [pairs(index.search(query[None], 7)[0]) for query in queries] == together


def test_an_index_that_was_read_changes_and_is_written_as_any_other(tmp_path: Path) -> None:
    save_index(make(50), tmp_path / "i")
    read, copy = load_index(tmp_path / "i"), load_index(tmp_path / "i").copy()
    for index in (read, copy):
        index.search(vectors(3), 2)
        index.remove([7])
        assert index.add(gallery(5, seed=4)) == 5  # of the same paths
        assert pairs(index.search(gallery(5, seed=4).features, 1)[3]) == [(53, pytest.approx(1.0))]
        assert 7 not in {match.id for match in index.search(vectors(8)[7:], 44)[0]}
    save_index(read, tmp_path / "changed")
    assert (
        faiss.read_index(str(tmp_path / "changed/vector.index")).ntotal == len(load_index(tmp_path / "changed")) == 49
    )


def test_a_large_index_is_left_to_faiss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_index(make(50), tmp_path / "i")
    small = load_index(tmp_path / "i").search(vectors(4, seed=5), 6)
    monkeypatch.setattr(files, "MOST_VALUES", 10)
    monkeypatch.setattr("shitu_cli.index.vectors.MOST_VALUES", 10)
    monkeypatch.setattr(FlatVectors, "nearest", None)
    large = load_index(tmp_path / "i").search(vectors(4, seed=5), 6)
    assert [[match.id for match in row] for row in large] == [[match.id for match in row] for row in small]
    assert np.allclose(*([match.score for row in rows for match in row] for rows in (large, small)), atol=1e-6)


def test_what_is_not_finite_is_left_to_faiss() -> None:
    """Another program may have written such vectors; no image is like them."""
    rows = vectors(9)
    rows[4] = np.nan
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(24))
    index.add_with_ids(rows, np.arange(9))
    names = {n: str(n) for n in range(9)}
    manifest = make(9).manifest
    assert VectorIndex(manifest, index, names, names).search(vectors(9)[2:3], 3)[0][0].id == 2


def test_removing_what_is_not_there_leaves_an_index_that_was_read(tmp_path: Path) -> None:
    save_index(make(50), tmp_path / "i")
    index = load_index(tmp_path / "i")
    with pytest.raises(UsageError, match="not in the index: id 99"):
        index.remove([99])
    assert len(index.search(vectors(1), 60)[0]) == 50
    save_index(index, tmp_path / "again")
    assert len(load_index(tmp_path / "again")) == 50


def test_another_thread_never_sees_the_index_of_faiss_half_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy made meanwhile, to add an image to it, would be written to the disk without the rest."""
    save_index(make(50), tmp_path / "i")
    index, seen = load_index(tmp_path / "i"), []
    add = faiss.IndexIDMap2.add_with_ids

    def watched(self: faiss.IndexIDMap2, rows: np.ndarray, ids: np.ndarray) -> None:
        seen.append(index._faiss)
        add(self, rows, ids)

    monkeypatch.setattr(faiss.IndexIDMap2, "add_with_ids", watched)
    assert (index.faiss.ntotal, seen) == (50, [None])
