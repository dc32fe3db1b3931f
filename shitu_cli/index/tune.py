"""The cheapest search that still finds the asked share of the true neighbours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shitu_cli.index.store import unit_vectors

PROBES = 200  # queries that measure an approximate index against the exact search
NEIGHBOURS = 10
BLOCK = 65_536  # rows that are compared at once: 128 MB of 512 values


def probe_rows(count: int) -> np.ndarray:
    """Numbers of the vectors that the probes are made of, rising; the same for the same count."""
    return np.sort(np.random.default_rng(0).choice(count, min(PROBES, count), replace=False))


def probes_like(vectors: np.ndarray) -> np.ndarray:
    """Queries [N, D] as other pictures of the same things would give: cosine about 0.8 to the indexed ones."""
    noise = np.random.default_rng(1).standard_normal(vectors.shape, np.float32)
    return unit_vectors(vectors + np.float32(0.7) * noise / np.sqrt(vectors.shape[1], dtype=np.float32))


def true_neighbours(probes: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Rows int64 [N, k] of the `NEIGHBOURS` most similar vectors, in no order; `features` are read in blocks."""
    import faiss

    top = min(NEIGHBOURS, len(features))
    scores, rows = np.empty((len(probes), 0), np.float32), np.empty((len(probes), 0), np.int64)
    for start in range(0, len(features), BLOCK):
        block = unit_vectors(features[start : start + BLOCK], start)
        some, at = faiss.knn(probes, block, min(top, len(block)), faiss.METRIC_INNER_PRODUCT)
        scores, rows = np.concatenate([scores, some], axis=1), np.concatenate([rows, at + start], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        scores, rows = np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)
    return rows


def found_share(answers: np.ndarray, truth: np.ndarray) -> float:
    """The share of `truth` int64 [N, k] that the answers [N, k] hold."""
    return sum(len(np.intersect1d(a, b)) for a, b in zip(answers, truth, strict=True)) / truth.size


def cheapest(
    answer: Callable[[int], np.ndarray], truth: np.ndarray, recall: float, first: int, limit: int
) -> tuple[int, float]:
    """The smallest effort (to a tenth) at which `answer(effort)` finds `recall` of the truth, and what it finds.

    `limit` where none does. Only searches are repeated, never the building: effort is a search parameter.
    """
    effort, too_small = first, first - 1
    found = found_share(answer(effort), truth)
    while found < recall and effort < limit:
        too_small, effort = effort, min(limit, effort * 2)
        found = found_share(answer(effort), truth)
    while effort - too_small > max(1, effort // 10) and found >= recall:
        middle = (too_small + effort) // 2
        share = found_share(answer(middle), truth)
        if share >= recall:
            effort, found = middle, share
        else:
            too_small = middle
    return effort, round(found, 4)
