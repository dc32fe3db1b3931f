"""Re-ranking against a dense twin, and both against what they are for: better rankings of clustered features."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from shitu_cli.evaluation import rerank
from shitu_cli.evaluation.metrics import FeatureSet, rank
from shitu_cli.evaluation.rerank import expand_queries, reranked
from shitu_cli.evaluation.result import EvalResult


def clustered(seed: int, queries: int, gallery: int, classes: int, noise: float) -> tuple[FeatureSet, FeatureSet]:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((classes, 16))

    def draw(count: int) -> FeatureSet:
        labels = rng.integers(0, classes, count)
        x = centres[labels] + noise * rng.standard_normal((count, 16))
        return FeatureSet((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels)

    return draw(queries), draw(gallery)


def dense(query: np.ndarray, gallery: np.ndarray, k1: int, k2: int, weight: float) -> np.ndarray:
    """The paper's algorithm on full matrices: distances [Q, G]."""
    x = np.concatenate([query, gallery]).astype(np.float64)
    count = len(x)
    original = np.square(2 - 2 * (x @ x.T))
    np.fill_diagonal(original, 0)
    original = original / original.max(axis=1, keepdims=True)
    order = np.argsort(original, axis=1, kind="stable")

    def reciprocal(i: int, k: int) -> list[int]:
        return [j for j in order[i, : k + 1] if i in order[j, : k + 1]]

    v = np.zeros((count, count))
    for i in range(count):
        own = reciprocal(i, k1)
        grown = set(own)
        for j in own:
            theirs = reciprocal(j, int(np.around(k1 / 2)))
            if len(set(theirs) & set(own)) > 2 / 3 * len(theirs):
                grown |= set(theirs)
        chosen = sorted(grown)
        v[i, chosen] = np.exp(-original[i, chosen])
        v[i] /= v[i].sum()
    if k2 > 1:
        v = np.stack([v[order[i, :k2]].mean(axis=0) for i in range(count)])
    q = len(query)
    minima = np.minimum(v[:q, None], v[None, q:]).sum(axis=2)
    maxima = np.maximum(v[:q, None], v[None, q:]).sum(axis=2)
    return (1 - weight) * (1 - minima / maxima) + weight * original[:q, q:]


@pytest.mark.parametrize(("k1", "k2"), [(20, 6), (6, 3), (5, 1)])
def test_equals_the_dense_twin(k1: int, k2: int) -> None:
    query, gallery = clustered(1, 12, 60, 6, 0.8)
    block = reranked(query.features, gallery.features, k1=k1, k2=k2)
    expected = dense(query.features, gallery.features, k1, k2, 0.3)
    assert np.allclose(-block(np.arange(12)), expected, atol=1e-4)
    assert np.allclose(-block(np.arange(5, 9)), expected[5:9], atol=1e-4)


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    query, gallery = clustered(2, 10, 80, 5, 0.7)
    whole = reranked(query.features, gallery.features)(np.arange(10))
    monkeypatch.setattr(rerank, "TILE", (7, 11))
    assert np.allclose(reranked(query.features, gallery.features)(np.arange(10)), whole, atol=1e-5)


def test_both_improve_clustered_features() -> None:
    query, gallery = clustered(3, 60, 400, 10, 1.2)
    plain = rank(query, gallery).metrics()["mAP"]
    again = rank(query, gallery, block=reranked(query.features, gallery.features)).metrics()["mAP"]
    moved = FeatureSet(expand_queries(query.features, gallery.features), query.labels)
    assert again > plain + 0.02
    assert rank(moved, gallery).metrics()["mAP"] > plain + 0.02


def test_fewer_pictures_than_neighbours() -> None:
    query, gallery = clustered(4, 2, 3, 2, 0.5)
    assert reranked(query.features, gallery.features)(np.arange(2)).shape == (2, 3)
    assert expand_queries(query.features, gallery.features).shape == (2, 16)


def test_neighbours_are_shown_in_the_order_that_was_measured() -> None:
    """A page of a re-ranked evaluation shows its order, beside plain similarities."""
    query, gallery = clustered(7, 8, 60, 5, 0.9)
    block = reranked(query.features, gallery.features)
    similarities = query.features @ gallery.features.T
    changed = 0
    for number in range(8):
        result = SimpleNamespace(sets=(query, gallery), block=block)
        neighbours = EvalResult.neighbours(result, number, 10)
        order = np.argsort(-block(np.asarray([number]))[0], kind="stable")[:10]
        assert [place for place, _ in neighbours] == order.tolist()
        assert np.allclose([score for _, score in neighbours], similarities[number, order])
        changed += order.tolist() != np.argsort(-similarities[number], kind="stable")[:10].tolist()
    assert changed
