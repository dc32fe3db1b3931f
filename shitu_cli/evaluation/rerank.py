"""Better rankings from the neighbours' neighbours, without matrices of all pairs.

k-reciprocal re-ranking (Zhong et al. 2017, arXiv:1701.08398) keeps, per image, only its few weighted neighbours; the
overlap of two such lists is counted through an inverted table, one block of queries at a time. Memory grows with
images times neighbours, where dense code needs images squared.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from shitu_cli.evaluation.similarity import Block, Similarities
from shitu_cli.runtime.threads import compute_threads

TILE = (512, 16_384)  # images by images, whose similarities are held at once: 32 MB


@dataclass(frozen=True)
class Sparse:
    """Rows of (column, weight): `columns[starts[i]:starts[i + 1]]` belong to row i."""

    starts: np.ndarray
    columns: np.ndarray
    weights: np.ndarray

    def row(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(self.starts[number], self.starts[number + 1])
        return self.columns[part], self.weights[part]


def expand_queries(query: np.ndarray, gallery: np.ndarray, *, count: int = 10, alpha: float = 3.0) -> np.ndarray:
    """Return queries moved towards their `count` nearest gallery features, weighted by similarity to the power alpha.

    Radenović et al. 2018, arXiv:1711.02512. query [Q, D] and gallery [G, D] of unit length; returns [Q, D] likewise.
    """
    best = _Best(len(query), min(count, len(gallery)))
    height, width = TILE
    for top in range(0, len(query), height):
        for left in range(0, len(gallery), width):
            best.take(_products(query[top : top + height], gallery[left : left + width]), top, left)
    expanded = np.empty_like(query)
    for top in range(0, len(query), height):
        rows = slice(top, top + height)
        weight = np.maximum(best.scores[rows], 0) ** alpha
        expanded[rows] = query[rows] + np.einsum("qk,qkd->qd", weight, gallery[best.numbers[rows]])
    return expanded / np.maximum(np.linalg.norm(expanded, axis=1, keepdims=True), 1e-12)


def reranked(
    query: np.ndarray,
    gallery: np.ndarray,
    *,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
    on_block: Callable[[int], None] = lambda images: None,
) -> Block:
    """Return the re-ranked similarities of queries by their numbers, for `rank`.

    query and gallery are of unit length; `weight` is the share of the original distance, the rest is the Jaccard
    distance of k-reciprocal neighbours. Similarities are negated distances. `on_block` is called with the number of
    images compared since the last call.
    """
    everything = np.concatenate([query, gallery])
    nearest, farthest = _neighbours(everything, k1, on_block)
    encoded = _encode(everything, nearest, farthest, k1)
    if k2 > 1:
        encoded = _average(encoded, nearest[:, :k2])
    first = len(query)
    table = _invert(encoded, first, len(everything))

    similarities = Similarities(query, gallery)

    def block(numbers: np.ndarray) -> np.ndarray:
        similarity = similarities(numbers)
        out = np.empty_like(similarity)
        for at, number in enumerate(numbers.tolist()):
            # The squared distance of unit vectors is 2 - 2 cos; the method squares it again and scales each row.
            original = np.square(2 - 2 * similarity[at]) / farthest[number]
            out[at] = -(1 - weight) * _jaccard(encoded, table, number, len(gallery)) - weight * original
        return out

    return block


def _products(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the similarities of all rows [N, D] with all columns [M, D], float32 [N, M]."""
    return Similarities(rows, columns)(np.arange(len(rows)))


def _neighbours(features: np.ndarray, k1: int, on_block: Callable[[int], None]) -> tuple[np.ndarray, np.ndarray]:
    """Return the k1 + 1 nearest of each image (itself first) and its largest squared-and-squared distance.

    Similarity is symmetric: each tile of the matrix is computed once and read by rows and by columns.
    """
    total = len(features)
    best = _Best(total, min(k1 + 1, total))
    height, width = TILE
    reported = 0
    for top in range(0, total, height):
        bottom = min(top + height, total)
        square = _products(features[top:bottom], features[top:bottom])
        np.fill_diagonal(square, np.inf)  # itself comes first, whatever rounding says
        best.take(square, top, top)
        for left in range(bottom, total, width):
            tile = _products(features[top:bottom], features[left : left + width])
            best.take(tile, top, left)
            best.take(tile.T, left, top)
        done = round(total * (1 - (1 - bottom / total) ** 2))  # the share of all pairs
        on_block(done - reported)
        reported = done
    return best.numbers, np.maximum(np.square(2 - 2 * best.lowest), 1e-12)


class _Best:
    """The `count` nearest of `rows` images among those shown so far, nearest first, ties by number.

    `numbers` int64 and `scores` float32 [rows, count]; `lowest` float32 [rows] is the least similarity of all.
    Tiles of one row have to come in the order of their columns.
    """

    def __init__(self, rows: int, count: int) -> None:
        self.numbers = np.full((rows, count), -1, np.int64)
        self.scores = np.full((rows, count), -np.inf, np.float32)
        self.lowest = np.full(rows, np.inf, np.float32)
        self._threads = compute_threads()
        self._pool = ThreadPoolExecutor(self._threads)

    def take(self, tile: np.ndarray, top: int, left: int) -> None:
        """Look at the similarities of the images from `top` on (rows) with those from `left` on (columns)."""
        kernel = _kernel()
        step = -(-len(tile) // self._threads)

        def work(start: int) -> None:
            own = slice(top + start, top + min(start + step, len(tile)))
            kernel(tile[start : start + step], left, self.numbers[own], self.scores[own], self.lowest[own])

        for _ in self._pool.map(work, range(0, len(tile), step)):
            pass


@lru_cache(maxsize=1)
def _kernel() -> Callable[..., None]:
    from shitu_cli.runtime.compilation import compiled

    @compiled(nogil=True)
    def keep_best(tile: Any, left: Any, numbers: Any, scores: Any, lowest: Any) -> None:
        count = scores.shape[1]
        for r in range(tile.shape[0]):
            low, bar = lowest[r], scores[r, count - 1]
            for c in range(tile.shape[1]):
                value = tile[r, c]
                low = min(low, value)
                if value > bar:
                    at = count - 1
                    while at > 0 and scores[r, at - 1] < value:
                        scores[r, at], numbers[r, at] = scores[r, at - 1], numbers[r, at - 1]
                        at -= 1
                    scores[r, at], numbers[r, at] = value, left + c
                    bar = scores[r, count - 1]
            lowest[r] = low

    return keep_best


def _encode(features: np.ndarray, nearest: np.ndarray, farthest: np.ndarray, k1: int) -> Sparse:
    """Return weights exp(-distance) over each image's k-reciprocal neighbours, enlarged by those of its neighbours."""
    half = max(1, int(np.around(k1 / 2)))
    full = [_reciprocal(nearest, i, k1 + 1) for i in range(len(nearest))]
    halved = [_reciprocal(nearest, i, half + 1) for i in range(len(nearest))]
    starts, columns, weights = [0], [], []
    for i in range(len(nearest)):
        own = full[i]
        grown = [own]
        for candidate in own:
            theirs = halved[candidate]
            if len(np.intersect1d(theirs, own, assume_unique=True)) > 2 / 3 * len(theirs):
                grown.append(theirs)
        chosen = np.unique(np.concatenate(grown))
        distance = np.square(2 - 2 * (features[chosen] * features[i]).sum(axis=1)) / farthest[i]
        weight = np.exp(-distance)
        columns.append(chosen)
        weights.append((weight / weight.sum()).astype(np.float32))
        starts.append(starts[-1] + len(chosen))
    return Sparse(np.asarray(starts), np.concatenate(columns), np.concatenate(weights))


def _reciprocal(nearest: np.ndarray, number: int, k: int) -> np.ndarray:
    """Return those among the k nearest of an image that have it among their own k nearest."""
    forward = nearest[number, :k]
    return forward[(nearest[forward, :k] == number).any(axis=1)]


def _average(encoded: Sparse, nearest: np.ndarray) -> Sparse:
    """Return each row replaced by the mean of its nearest images' rows."""
    starts, columns, weights = [0], [], []
    for near in nearest:
        parts = [encoded.row(int(n)) for n in near]
        chosen, place = np.unique(np.concatenate([c for c, _ in parts]), return_inverse=True)
        summed = np.bincount(place, weights=np.concatenate([w for _, w in parts])) / len(near)
        columns.append(chosen)
        weights.append(summed.astype(np.float32))
        starts.append(starts[-1] + len(chosen))
    return Sparse(np.asarray(starts), np.concatenate(columns), np.concatenate(weights))


def _invert(encoded: Sparse, first: int, count: int) -> Sparse:
    """Return for each column the gallery images (counted from 0) that have it, with their weights."""
    begin = encoded.starts[first]
    columns, weights = encoded.columns[begin:], encoded.weights[begin:]
    rows = np.repeat(np.arange(count - first), np.diff(encoded.starts[first:]))
    order = np.argsort(columns, kind="stable")
    starts = np.searchsorted(columns[order], np.arange(count + 1))
    return Sparse(starts, rows[order], weights[order])


def _jaccard(encoded: Sparse, table: Sparse, number: int, gallery: int) -> np.ndarray:
    """Return 1 - sum of minima / sum of maxima of the rows' weights, float32 [gallery]."""
    shared = np.zeros(gallery, np.float32)
    for column, weight in zip(*encoded.row(number), strict=True):
        rows, weights = table.row(int(column))
        shared[rows] += np.minimum(weight, weights)
    # Rows sum to 1, so the sum of maxima is 2 minus the sum of minima.
    return np.asarray(1 - shared / (2 - shared), np.float32)
