"""Choose the cheapest search that still reaches the target recall."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shitu_cli.index.store import unit_blocks, unit_vectors

PROBES = 200  # queries that measure an approximate index against the exact search
NEIGHBOURS = 10
BLOCK = 65_536  # rows that are compared at once: 128 MB of 512 values


def probe_rows(count: int) -> np.ndarray:
    """Return the rows int64 [P] to make probes of, ascending; the same for the same count."""
    return np.sort(np.random.default_rng(0).choice(count, min(PROBES, count), replace=False))


def probes_like(vectors: np.ndarray) -> np.ndarray:
    """Return queries [N, D] like other images of the same things: cosine about 0.8 to the indexed vectors."""
    noise = np.random.default_rng(1).standard_normal(vectors.shape, np.float32)
    return unit_vectors(vectors + np.float32(0.7) * noise / np.sqrt(vectors.shape[1], dtype=np.float32))


def true_neighbours(probes: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return the rows int64 [N, k] of the `NEIGHBOURS` most similar vectors, best first; reads `features` in blocks."""
    import faiss

    top = min(NEIGHBOURS, len(features))
    scores, rows = np.empty((len(probes), 0), np.float32), np.empty((len(probes), 0), np.int64)
    for start, block in unit_blocks(features, size=BLOCK):
        some, at = faiss.knn(probes, block, min(top, len(block)), faiss.METRIC_INNER_PRODUCT)
        scores, rows = np.concatenate([scores, some], axis=1), np.concatenate([rows, at + start], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        scores, rows = np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)
    return rows


def recall_of(answers: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of `truth` int64 [N, k] that is among the answers int64 [N, k]."""
    return sum(len(np.intersect1d(a, b)) for a, b in zip(answers, truth, strict=True)) / truth.size


def cheapest(
    answer: Callable[[int], np.ndarray], truth: np.ndarray, target: float, first: int, limit: int
) -> tuple[int, float]:
    """Return the smallest effort (to a tenth) at which `answer(effort)` reaches the recall `target`, and its recall.

    Returns `limit` if none does. Only searches are repeated, never the build: effort is a search parameter.
    """
    effort, too_small = first, first - 1
    recall = recall_of(answer(effort), truth)
    while recall < target and effort < limit:
        too_small, effort = effort, min(limit, effort * 2)
        recall = recall_of(answer(effort), truth)
    while effort - too_small > max(1, effort // 10) and recall >= target:
        middle = (too_small + effort) // 2
        share = recall_of(answer(middle), truth)
        if share >= target:
            effort, recall = middle, share
        else:
            too_small = middle
    return effort, round(recall, 4)
