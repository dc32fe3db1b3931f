"""Metrics against a naive twin that sorts, against golden values, and in every corner."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.errors import DataError
from shitu_cli.evaluation import metrics
from shitu_cli.evaluation.metrics import FeatureSet, Ranking, bootstrap_interval, nearest, rank
from shitu_cli.evaluation.ranking_loops import BINS
from shitu_cli.evaluation.similarity import Similarities
from tests.mutations import cases

KS = (1, 3, 10)


def naive(query: FeatureSet, gallery: FeatureSet) -> tuple[dict[str, float], list[int], int]:
    """All metrics by sorting; the nearest gallery image of every query; how many queries cannot be answered."""
    sums: dict[str, list[float]] = {}
    top1, unanswerable = [], 0
    for q in range(len(query)):
        similarity = query.features[q] @ gallery.features.T
        valid = np.ones(len(gallery), bool)
        if query.identity is not None and gallery.identity is not None:
            valid &= gallery.identity != query.identity[q]
        known = query.labels[q] >= 0
        if query.ids is not None and gallery.ids is not None and known and query.ids[q] >= 0:
            valid &= ~((gallery.labels == query.labels[q]) & (gallery.ids == query.ids[q]))
        # Equal similarities by position: a stable sort of the negated values.
        order = [int(g) for g in np.argsort(-similarity, kind="stable") if valid[g]]
        top1.append(order[0] if order else -1)
        relevant = [known and gallery.labels[g] == query.labels[q] for g in order]
        places = [n + 1 for n, hit in enumerate(relevant) if hit]
        if not places:
            unanswerable += 1
            continue
        count = len(places)
        values = {f"recall@{k}": float(places[0] <= k) for k in KS}
        values |= {f"precision@{k}": sum(p <= k for p in places) / k for k in KS}
        values["mAP"] = sum((i + 1) / p for i, p in enumerate(places)) / count
        values["mAP@R"] = sum((i + 1) / p for i, p in enumerate(places) if p <= count) / count
        values["R-precision"] = sum(p <= count for p in places) / count
        values["mINP"] = count / places[-1]
        values["MRR"] = 1 / places[0]
        for name, value in values.items():
            sums.setdefault(name, []).append(value)
    return {name: float(np.mean(value)) for name, value in sums.items()}, top1, unanswerable


def check(query: FeatureSet, gallery: FeatureSet) -> Ranking:
    expected, top1, unanswerable = naive(query, gallery)
    found = rank(query, gallery, topk=KS)
    assert int((~found.answerable).sum()) == unanswerable
    assert found.top1.tolist() == top1
    if expected:
        for name, value in found.metrics().items():
            assert value == pytest.approx(expected[name], abs=1e-12), name
    return found


@cases(150)
@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(1, 12),
    size=st.integers(1, 40),
    classes=st.integers(1, 6),
    with_ids=st.booleans(),
    with_identity=st.booleans(),
)
def test_equals_the_naive_twin(
    seed: int, queries: int, size: int, classes: int, with_ids: bool, with_identity: bool
) -> None:
    """Small whole numbers as features: products are exact, and ties are many."""
    rng = np.random.default_rng(seed)

    def draw(count: int) -> FeatureSet:
        features = rng.integers(-2, 3, (count, 3)).astype(np.float32)
        ids = rng.integers(-1, 3, count) if with_ids else None
        identity = rng.integers(0, 8, count) if with_identity else None
        return FeatureSet(features, rng.integers(-1, classes, count), ids, identity)

    check(draw(queries), draw(size))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_blocks_and_threads_do_not_matter(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    query = FeatureSet(rng.integers(-3, 4, (70, 8)).astype(np.float32), rng.integers(0, 9, 70))
    gallery = FeatureSet(rng.integers(-3, 4, (300, 8)).astype(np.float32), rng.integers(0, 9, 300))
    whole = rank(query, gallery)
    monkeypatch.setattr(metrics, "BLOCK_VALUES", 1)
    parts = rank(query, gallery, threads=threads)
    assert whole.metrics() == parts.metrics()
    assert np.array_equal(whole.matches, parts.matches) and np.array_equal(whole.others, parts.others)


def test_golden(golden_dir: Path) -> None:
    data = np.load(golden_dir / "metrics.npz")
    expected = json.loads((golden_dir / "metrics.json").read_text())["metrics"]

    def unit(x: np.ndarray) -> np.ndarray:
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    query = FeatureSet(unit(data["query"]), data["query_labels"])
    gallery = FeatureSet(unit(data["gallery"]), data["gallery_labels"])
    found = rank(query, gallery).metrics()
    assert [found[f"recall@{k}"] for k in (1, 5, 10)] == [expected[f"recall{k}"] for k in (1, 5, 10)]
    assert found["mAP"] == pytest.approx(expected["mAP"], abs=1e-6)
    naive_metrics, _, _ = naive(query, gallery)
    assert found["mINP"] == pytest.approx(naive_metrics["mINP"], abs=1e-12)


def test_a_query_list_that_is_the_gallery_list_does_not_find_itself() -> None:
    features = np.eye(4, dtype=np.float32)
    both = FeatureSet(features, np.array([0, 0, 1, 1]), identity=np.arange(4))
    assert rank(both, both).metrics()["recall@1"] < 1.0
    assert rank(FeatureSet(features, both.labels), FeatureSet(features, both.labels)).metrics()["recall@1"] == 1.0


def test_excluded_images_are_removed_not_ranked_low() -> None:
    query = FeatureSet(np.array([[1.0]], np.float32), np.array([0]), np.array([7]))
    gallery = FeatureSet(np.array([[0.9], [-0.5], [-1.0]], np.float32), np.array([0, 0, 1]), np.array([7, 8, 8]))
    assert rank(query, gallery).metrics()["recall@1"] == 1.0


def test_ties_are_ordered_by_position() -> None:
    query = FeatureSet(np.ones((1, 1), np.float32), np.array([1]))
    gallery = np.ones((3, 1), np.float32)
    assert rank(query, FeatureSet(gallery, np.array([1, 0, 0]))).metrics()["recall@1"] == 1.0
    assert rank(query, FeatureSet(gallery, np.array([0, 1, 0]))).first_rank[0] == 2


def test_unanswerable_queries_are_counted_not_averaged() -> None:
    query = FeatureSet(np.eye(3, dtype=np.float32), np.array([0, 5, -1]))
    found = rank(query, FeatureSet(np.eye(3, dtype=np.float32), np.array([0, 1, -1])))
    assert found.answerable.tolist() == [True, False, False]
    assert found.metrics()["recall@1"] == 1.0


def test_features_that_are_not_finite_or_of_other_length_are_refused() -> None:
    good = FeatureSet(np.ones((2, 3), np.float32), np.array([0, 1]))
    bad = FeatureSet(np.array([[1, 1, 1], [1, np.nan, 1]], np.float32), np.array([0, 1]))
    with pytest.raises(DataError, match="gallery features of image 2 are not finite"):
        rank(good, bad)
    with pytest.raises(DataError, match="query features have 3 values, gallery features 4"):
        rank(good, FeatureSet(np.ones((2, 4), np.float32), np.array([0, 1])))


def test_histograms_count_the_pairs() -> None:
    rng = np.random.default_rng(4)

    def draw(count: int) -> FeatureSet:
        x = rng.standard_normal((count, 6)).astype(np.float32)
        return FeatureSet(x / np.linalg.norm(x, axis=1, keepdims=True), rng.integers(0, 4, count))

    query, gallery = draw(40), draw(200)
    similarity = query.features @ gallery.features.T
    same = query.labels[:, None] == gallery.labels[None]
    found = rank(query, gallery)
    assert found.matches.sum() == same.sum() and found.others.sum() == (~same).sum()
    for histogram, pairs in ((found.matches, same), (found.others, ~same)):
        below = np.cumsum(histogram)[1200]  # bins are 0.001 wide around their middles, from -1
        assert abs(below - (similarity[pairs] < 0.2005).sum()) <= 1


def test_bootstrap_interval_holds_the_mean_and_repeats() -> None:
    values = (np.random.default_rng(0).random(400) < 0.3).astype(np.float64)
    low, high = bootstrap_interval(values)
    assert low < values.mean() < high and high - low == pytest.approx(0.09, abs=0.02)
    assert bootstrap_interval(values) == (low, high)
    # Six of six say less than six hundred of six hundred, and neither says that nothing can go wrong.
    assert bootstrap_interval(np.ones(6)) == pytest.approx((0.610, 1.0), abs=1e-3)
    assert bootstrap_interval(np.ones(600))[0] == pytest.approx(0.994, abs=1e-3)


@pytest.mark.parametrize("count", [1, 4, 30, 50])
def test_nearest_are_the_first_of_the_ranking(count: int) -> None:
    """Few different similarities, so that ties cross the last place."""
    rng = np.random.default_rng(6)
    query = FeatureSet(rng.integers(-1, 2, (5, 2)).astype(np.float32), np.arange(5), identity=np.arange(5))
    gallery = FeatureSet(rng.integers(-1, 2, (30, 2)).astype(np.float32), np.arange(30) % 5, identity=np.arange(30))
    for number in range(5):
        similarity = gallery.features @ query.features[number]
        expected = [g for g in np.argsort(-similarity, kind="stable").tolist() if g != number][:count]
        assert nearest(query, gallery, number, count) == [(g, float(similarity[g])) for g in expected]


@pytest.mark.parametrize("size", [3, 8, 130, 1280])
def test_a_similarity_follows_from_its_two_vectors_alone(size: int) -> None:
    """Whatever the number of rows, their order, place and copies: BLAS gives other bits for most of these."""
    rng = np.random.default_rng(size)
    query = rng.standard_normal((70, size)).astype(np.float32)
    gallery = rng.standard_normal((600, size)).astype(np.float32)
    whole = Similarities(query, gallery, threads=1)(np.arange(70))
    assert np.allclose(whole, query.astype(np.float64) @ gallery.T.astype(np.float64), atol=1e-3)
    for threads in (2, 3, 7):
        assert np.array_equal(Similarities(query, gallery, threads=threads)(np.arange(70)), whole)
    for rows in ([5], [69, 0, 5], list(range(0, 70, 3))):
        assert np.array_equal(Similarities(query, gallery)(np.asarray(rows)), whole[rows])
    shuffled = rng.permutation(600)
    assert np.array_equal(Similarities(query, gallery[shuffled])(np.arange(70)), whole[:, shuffled])
    assert np.array_equal(Similarities(query, gallery[:1])(np.arange(70)), whole[:, :1])
    assert np.array_equal(Similarities(query, query)(np.arange(70)), Similarities(query, query)(np.arange(70)).T)
    copies = np.repeat(gallery[:1], 600, axis=0)
    assert len(np.unique(Similarities(query[:1], copies)(np.arange(1)))) == 1


def _coinciding(count: int, size: int, spread: float, seed: int = 0) -> FeatureSet:
    """Unit vectors that differ from one another by about `spread`, in classes that do not depend on them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(size) + spread * rng.standard_normal((count, size))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return FeatureSet(x.astype(np.float32), rng.integers(0, 4, count), identity=np.arange(count))


@pytest.mark.parametrize(("spread", "coincide"), [(0.0, True), (1e-6, True), (1e-4, True), (1e-1, False), (1, False)])
def test_rankings_that_rounding_decides_are_noticed(spread: float, coincide: bool) -> None:
    """Below the resolution, rounding to float32 another way exchanges the first images; well above, it never does."""
    part = _coinciding(80, 640, spread)
    found = rank(part, part)
    assert found.decided_by_rounding == coincide
    assert (found.coincidence() is not None) == coincide
    # The same features in another basis: what is decided stays, whatever the rounding.
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((640, 640)))[0]
    turned = FeatureSet((part.features.astype(np.float64) @ turn).astype(np.float32), part.labels, None, part.identity)
    firm = np.abs(found.margin) >= found.resolution
    assert np.array_equal(rank(turned, turned).hits[firm, 0], found.hits[firm, 0])
    if coincide:
        assert found.undecided > 60


def test_a_few_copies_in_two_classes_do_not_hide_the_recall() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((60, 64)).astype(np.float32)
    x[1] = x[0]
    part = FeatureSet(x / np.linalg.norm(x, axis=1, keepdims=True), np.arange(60) % 5, identity=np.arange(60))
    found = rank(part, part)
    assert 0 < found.undecided <= 2 and found.coincidence() is None


@pytest.mark.parametrize("length", [1e20, 3e38])
def test_features_whose_products_overflow_are_refused(length: float) -> None:
    """Once they crashed the process: a product that is no number became an index of compiled code."""
    signs = np.where(np.arange(24).reshape(4, 6) % 3 == 0, -1, 1)
    part = FeatureSet((signs * length).astype(np.float32), np.array([0, 0, 1, 1]))
    with pytest.raises(DataError, match="too large to compare"):
        rank(part, part)


def test_similarities_of_a_block_may_be_anything() -> None:
    """NaN and infinity from a re-ranking are counted somewhere instead of leaving the histogram's memory."""
    part = FeatureSet(np.eye(4, dtype=np.float32), np.array([0, 0, 1, 1]))
    odd = np.array([np.nan, np.inf, -np.nan, 1e38], np.float32)
    found = rank(part, part, block=lambda numbers: np.tile(odd, (len(numbers), 1)))
    assert len(found.others) == BINS and found.others.sum() + found.matches.sum() <= 16


def test_neighbours_come_in_the_order_of_a_re_ranking() -> None:
    query = FeatureSet(np.eye(3, dtype=np.float32)[:1], np.array([0]))
    gallery = FeatureSet(np.eye(3, dtype=np.float32), np.array([0, 1, 0]))
    order = np.array([[0.1, 0.3, 0.2]], np.float32)
    assert [place for place, _ in metrics.nearest(query, gallery, 0, 3, block=lambda numbers: order)] == [1, 2, 0]
    assert metrics.nearest(query, gallery, 0, 1) == [(0, 1.0)]
