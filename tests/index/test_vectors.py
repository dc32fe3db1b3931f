"""The index in memory: exact against numpy, approximate kinds as good as asked, every kind changes as asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest

from shitu_cli.errors import DataError, UsageError
from shitu_cli.index import vectors as module
from shitu_cli.index.store import KINDS, BuildOptions, FeatureTable
from shitu_cli.index.tune import BLOCK, cheapest, true_neighbours
from shitu_cli.index.vectors import VectorIndex
from shitu_cli.reporting import SilentReporter
from tests.index.made import gallery, make, vectors


def test_flat_is_exact() -> None:
    index, queries = make(), vectors(20, seed=5)
    similarity = queries @ vectors(300).T
    for matches, row in zip(index.search(queries, 7), similarity, strict=True):
        order = np.argsort(-row, kind="stable")[:7]
        assert [m.id for m in matches] == order.tolist()
        assert np.allclose([m.score for m in matches], row[order], atol=1e-6)
        assert matches[0].path == f"p/{order[0]}.jpg" and matches[0].label == f"class {order[0] % 7}"


def test_equal_scores_are_ordered_by_id() -> None:
    same = np.repeat(vectors(1), 9, axis=0)
    index = VectorIndex.build(FeatureTable(same, ["a"] * 9, [str(n) for n in range(9)]))
    assert [m.id for m in index.search(same[:1], 9)[0]] == list(range(9))


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
@pytest.mark.parametrize("recall", [0.8, 0.99])
def test_approximate_kinds_reach_their_recall(kind: str, recall: float) -> None:
    index = make(3000, kind, recall)
    assert index.manifest.recall is not None and index.manifest.recall >= recall
    noise = np.random.default_rng(9).standard_normal((100, 24)).astype(np.float32)
    queries = vectors(3000)[::30] + 0.1 * noise
    exact = make(3000).search(queries, 10)
    shares = [
        len({m.id for m in a} & {m.id for m in b}) / 10 for a, b in zip(index.search(queries, 10), exact, strict=True)
    ]
    assert np.mean(shares) > recall - 0.05


def test_the_cheapest_search_is_found() -> None:
    truth = np.arange(10)[None]
    asked: list[int] = []

    def answer(effort: int) -> np.ndarray:
        asked.append(effort)
        return np.where(np.arange(10) < effort // 10, np.arange(10), -1)[None]

    assert cheapest(answer, truth, 0.9, 1, 4096) == (96, 0.9)  # 90 would do: found to a tenth
    assert len(asked) < 16
    assert cheapest(answer, truth, 0.9, 1, 50) == (50, 0.5)
    assert cheapest(answer, truth, 0.9, 200, 4096) == (200, 1.0)


def test_true_neighbours_are_those_of_all_blocks() -> None:
    features, probes = vectors(BLOCK + 5, size=4), vectors(6, size=4, seed=2)
    similarity = probes @ features.T
    best = np.take_along_axis(similarity, np.argsort(-similarity, axis=1)[:, :10], axis=1)
    found = np.take_along_axis(similarity, true_neighbours(probes, features), axis=1)
    assert np.allclose(np.sort(found), np.sort(best), atol=1e-6)
    assert true_neighbours(probes, features[:3]).shape == (6, 3)


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_vectors_lie_where_faiss_itself_would_put_them(kind: str) -> None:
    index, more = make(300, kind), gallery(200, seed=4)
    index.add(more._replace(paths=[f"more/{n}" for n in range(200)]))
    made = make(300, kind)  # its centres
    made.inner.reset()
    theirs = faiss.IndexIDMap2(faiss.clone_index(made.inner))
    for first, table in ((0, gallery(300)), (300, more)):
        theirs.add_with_ids(table.features, np.arange(first, first + len(table.labels)))
    if kind == "ivf":  # saved with the index
        faiss.downcast_index(theirs.index).nprobe = index.inner.nprobe
    assert np.array_equal(faiss.serialize_index(index.faiss), faiss.serialize_index(theirs))
    assert np.array_equal(index.vectors(np.arange(300, 500)), more.features)
    out = np.empty((2, 24), np.float32)
    index.vectors(np.array([7, 300]), out)
    assert np.array_equal(out, [gallery(300).features[7], more.features[0]])


def test_an_ivf_index_keeps_its_centres_when_vectors_go() -> None:
    index = make(400, "ivf")
    centres = index.inner.quantizer.reconstruct_n(0, index.inner.nlist)
    told: list[str] = []

    class Heard(SilentReporter):
        def info(self, text: str) -> None:
            told.append(text)

    index.remove([3, 5], Heard())
    assert np.array_equal(index.inner.quantizer.reconstruct_n(0, index.inner.nlist), centres)
    assert told == ["an ivf index cannot replace or remove vectors: all 398 vectors are indexed again"]
    assert np.array_equal(index.vectors(np.array([2, 4, 399])), gallery(400).features[[2, 4, 399]])
    index.add(gallery(4000, seed=2)._replace(paths=[f"more/{n}" for n in range(4000)]), Heard())
    assert told[1:] == ["an ivf index has outgrown its lists: all 4,398 vectors are indexed again"]


def test_each_path_once_as_it_came_last() -> None:
    x = vectors(5)
    table = FeatureTable(x, list("abcde"), ["p", "", "q", "p", ""])
    once = table.distinct()
    assert (list(once.labels), list(once.paths)) == (list("bcde"), ["", "q", "p", ""])
    assert np.array_equal(once.features, x[1:]) and once.distinct() is once


@pytest.mark.parametrize("kind", KINDS)
def test_remove_and_add(kind: str) -> None:
    index, queries = make(200, kind), vectors(5, seed=3)
    gone = {m[0].id for m in index.search(queries, 1)}
    index.remove(gone)
    assert len(index) == index.manifest.count == 200 - len(gone)
    assert not {m.id for row in index.search(queries, 5) for m in row} & gone
    kept = {item.id: item for item in index.items()}
    assert all(kept[n].path == f"p/{n}.jpg" for n in kept) and not set(kept) & gone
    index.add(FeatureTable(queries, ["new"] * 5, [f"q{n}" for n in range(5)]))
    assert [item.id for item in index.items()][-5:] == list(range(200, 205))
    assert [row[0].label for row in index.search(queries, 1)] == ["new"] * 5
    count = len(index)
    index.add(FeatureTable(queries[:1], ["newer"], ["q0"]))  # the same path is replaced
    assert len(index) == count and index.search(queries[:1], 1)[0][0].label == "newer"
    assert index.manifest.next_id == 206


@pytest.mark.parametrize("kind", KINDS)
def test_all_pictures_can_be_replaced(kind: str) -> None:
    index, table = make(60, kind), gallery(60, seed=8)
    index.add(table)
    assert [item.id for item in index.items()] == list(range(60, 120))
    first = [row[0].path for row in index.search(table.features, 1)]
    assert np.mean([found == path for found, path in zip(first, table.paths, strict=True)]) > 0.9


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_adding_keeps_the_recall(kind: str) -> None:
    index = make(400, kind)
    more = gallery(4000, seed=4)
    index.add(more._replace(paths=[f"more/{n}" for n in range(4000)]))
    assert len(index) == 4400 and (index.manifest.recall or 0) >= 0.99
    assert np.mean([row[0].score > 0.999 for row in index.search(more.features[::40], 1)]) > 0.95


def test_items_without_a_path_do_not_replace_each_other() -> None:
    index = VectorIndex.build(FeatureTable(vectors(3), ["a"] * 3, [""] * 3))
    index.add(FeatureTable(vectors(2, seed=1), ["b"] * 2, [""] * 2))
    assert len(index) == 5


def test_threshold_leaves_out() -> None:
    index = make()
    first = vectors(300)[:1]
    assert [m.id for m in index.search(first, 5, threshold=0.9999)[0]] == [0]
    assert index.search(-first, 5, threshold=0.9999) == [[]]


def test_wrong_input() -> None:
    index = make(50)
    with pytest.raises(DataError, match="25 values, the index 24"):
        index.search(np.ones((1, 25), np.float32))
    with pytest.raises(DataError, match="25 values, the index 24"):
        index.add(gallery(3, size=25))
    bad = vectors(20_000)
    bad[19_000] = np.nan
    with pytest.raises(DataError, match="vector 19001 is not finite"):
        VectorIndex.build(FeatureTable(bad, [""] * 20_000, [""] * 20_000))
    with pytest.raises(UsageError, match="expected one of"):
        make(10, "annoy")
    with pytest.raises(UsageError, match="recall=5: expected a number from"):
        make(10, "hnsw", 5)
    with pytest.raises(UsageError, match="empty"):
        index.remove(range(50))
    for values, says in [([[1.0] * 24], "got list"), (np.full((1, 24), 1j), "complex"), (np.full((1, 24), "1"), "U1")]:
        with pytest.raises(DataError, match=says):
            index.search(values)
    with pytest.raises(DataError, match="no vectors"):
        VectorIndex.build(FeatureTable(np.empty((0, 3), np.float32), [], []))
    for labels, paths in (("ab", ["a", "b"]), (["a", "b"], "ab")):
        with pytest.raises(DataError, match="expected one for each vector, got a single text"):
            VectorIndex.build(FeatureTable(vectors(2), labels, paths))
    for size in (0, 65_537):  # as large as no index is read again
        with pytest.raises(DataError, match=f"vectors of {size:,} values: an index takes 1 to 65,536"):
            VectorIndex.build(FeatureTable(np.ones((1, size), np.float32), ["a"], ["b"]))
    with pytest.raises(UsageError, match="model and model_path of an index are texts"):
        VectorIndex.build(gallery(3), BuildOptions(model=Path("inference")))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="2 vectors, but 1 labels"):
        VectorIndex.build(FeatureTable(vectors(2), ["a"], ["b"]), BuildOptions())


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_without_a_direction_are_like_no_other(kind: str) -> None:
    """Each image of the index would be as near, and the first five would be an answer."""
    table = gallery(60)
    table.features[7] = 1e-20
    with pytest.raises(DataError, match="vector 8 is all zeros"):
        VectorIndex.build(table, BuildOptions(kind))
    index = make(60, kind)
    for zeros in (table.features[5:9], np.zeros((3, 24), int)):
        with pytest.raises(DataError, match=r"vector [13] is all zeros"):
            index.search(zeros)
    with pytest.raises(DataError, match="vector 8 is all zeros"):
        index.add(table)


def test_a_vector_is_named_by_its_row_in_what_the_user_gave() -> None:
    table = gallery(8000)  # more than an ivf index looks at to find its centres
    table.features[7000:] = 0
    with pytest.raises(DataError, match=r"vector (7\d\d\d|8000) is all zeros"):
        VectorIndex.build(table, BuildOptions("ivf"))
    for kind in ("hnsw", "ivf"):  # which are built again with what they hold
        few = gallery(5)
        few.features[3] = np.nan
        with pytest.raises(DataError, match="vector 4 is not finite"):
            make(60, kind).add(few)
    twice = gallery(4)._replace(paths=["a", "a", "b", "c"])
    twice.features[3] = 0
    with pytest.raises(DataError, match="vector 4 is all zeros"):
        VectorIndex.build(twice.distinct())


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_added_leaves_the_index_as_it_is(kind: str) -> None:
    """Changes that are written together go on with it."""
    index, queries = make(60, kind), vectors(5)
    before = index.search(queries, 5)
    table = gallery(3)  # whose paths the index has
    table.features[2] = 0
    with pytest.raises(DataError, match="vector 3 is all zeros"):
        index.add(table)
    assert index.search(queries, 5) == before and len(index) == index.faiss.ntotal == 60


def test_signs_that_are_all_the_same_tell_no_images_apart() -> None:
    """Features after a ReLU: each search gave the first five of the index, with score 1."""
    table = gallery(60)
    with pytest.raises(DataError, match="binary index keeps only the signs"):
        VectorIndex.build(table._replace(features=np.abs(table.features)), BuildOptions("binary"))
    one = FeatureTable(np.ones((1, 24), np.float32), ["a"], ["b"])
    assert len(VectorIndex.build(one, BuildOptions("binary"))) == 1


def test_a_small_ivf_index_is_built_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    make(6, "ivf")
    assert capfd.readouterr() == ("", "")


def test_what_a_search_cannot_mean() -> None:
    index = make(20)
    for top in (-1, 2.5, "3", True):
        with pytest.raises(UsageError, match=r"^top=.*: expected a whole number of at least 0$"):
            index.search(vectors(1), top)  # type: ignore[arg-type]
    for threshold in (2, "0.5", float("nan"), True):
        with pytest.raises(UsageError, match=r"^threshold=.*: expected a number from -1 to 1$"):
            index.search(vectors(1), 3, threshold)  # type: ignore[arg-type]


def test_answers_are_right_beside_the_kernels_of_training() -> None:
    """Three OpenMP runtimes in one process: Paddle's, numba's and that of faiss."""
    code = (
        "from shitu_cli.runtime.setup import setup_paddle; setup_paddle('cpu', threads=2)\n"
        "import paddle; from shitu_cli.model import kernels\n"
        "kernels.depthwise_conv(paddle.randn([4, 8, 20, 20]), paddle.randn([8, 1, 3, 3]), 1)\n"
        "from tests.index.made import make, vectors\n"
        "index, queries = make(200, 'hnsw'), vectors(5, seed=3)\n"
        "found = [[m.id for m in row] for _ in range(20) for row in index.search(queries, 3)]\n"
        "assert all(len(set(ids)) == 3 for ids in found), found; print('right')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "right", done.stderr


def test_small_searches_wait_for_no_other_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(module, "compute_threads", lambda: 8)
    monkeypatch.setattr(faiss, "omp_set_num_threads", chosen.append)
    index = make(300, "binary")
    chosen.clear()
    index.search(vectors(2), 5)
    monkeypatch.setattr(module, "PER_THREAD", 2 * 300 * 24 // 3)
    index.search(vectors(2), 5)
    index.search(vectors(200), 5)
    assert chosen == [1, 4, 8]  # one, as many as there is work for, all
