"""Better rankings from the neighbours' neighbours, without matrices of all pairs.

k-reciprocal re-ranking (Zhong et al. 2017, arXiv:1701.08398) keeps, per picture, only its few weighted neighbours; the
overlap of two such lists is counted through an inverted table, one block of queries at a time. Memory grows with
pictures times neighbours, where dense code needs pictures squared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BLOCK_VALUES = 16_000_000  # similarities held at once: 64 MB


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
    """Queries moved towards their `count` nearest gallery features, each weighted by similarity to the power alpha.

    Radenović et al. 2018, arXiv:1711.02512. query [Q, D] and gallery [G, D] of unit length; returns [Q, D] likewise.
    """
    count = min(count, len(gallery))
    expanded = np.empty_like(query)
    rows = max(1, BLOCK_VALUES // max(1, len(gallery)))
    for start in range(0, len(query), rows):
        similarity = query[start : start + rows] @ gallery.T
        best = _top(similarity, count)
        weight = np.maximum(np.take_along_axis(similarity, best, 1), 0) ** alpha
        expanded[start : start + rows] = query[start : start + rows] + np.einsum("qk,qkd->qd", weight, gallery[best])
    return expanded / np.maximum(np.linalg.norm(expanded, axis=1, keepdims=True), 1e-12)


def reranked(
    query: np.ndarray,
    gallery: np.ndarray,
    *,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
    on_block: Callable[[int], None] = lambda pictures: None,
) -> Callable[[int, int], np.ndarray]:
    """A function (start, stop) → re-ranked similarities float32 [stop - start, G] of those queries, for `rank`.

    query and gallery are of unit length; `weight` is the share of the original distance, the rest is the Jaccard
    distance of k-reciprocal neighbours. Similarities are negated distances. `on_block` hears of pictures compared.
    """
    everything = np.concatenate([query, gallery])
    nearest, farthest = _neighbours(everything, k1, on_block)
    encoded = _encode(everything, nearest, farthest, k1)
    if k2 > 1:
        encoded = _average(encoded, nearest[:, :k2])
    first = len(query)
    table = _invert(encoded, first, len(everything))

    def block(start: int, stop: int) -> np.ndarray:
        similarity = query[start:stop] @ gallery.T
        out = np.empty_like(similarity)
        for at, number in enumerate(range(start, stop)):
            # The squared distance of unit vectors is 2 - 2 cos; the method squares it again and scales each row.
            original = np.square(2 - 2 * similarity[at]) / farthest[number]
            out[at] = -(1 - weight) * _jaccard(encoded, table, number, len(gallery)) - weight * original
        return out

    return block


def _top(similarity: np.ndarray, count: int) -> np.ndarray:
    """Columns of the `count` largest values of each row, largest first, ties by column."""
    some = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
    some.sort(axis=1)
    order = np.argsort(-np.take_along_axis(similarity, some, 1), axis=1, kind="stable")
    return np.take_along_axis(some, order, 1)


def _neighbours(features: np.ndarray, k1: int, on_block: Callable[[int], None]) -> tuple[np.ndarray, np.ndarray]:
    """The k1 + 1 nearest of each picture (itself first) and its largest squared-and-squared distance."""
    count = min(k1 + 1, len(features))
    nearest = np.empty((len(features), count), np.int64)
    farthest = np.empty(len(features), np.float32)
    rows = max(1, BLOCK_VALUES // len(features))
    for start in range(0, len(features), rows):
        similarity = features[start : start + rows] @ features.T
        farthest[start : start + rows] = np.square(2 - 2 * similarity.min(axis=1))
        numbers = np.arange(start, start + len(similarity))
        similarity[np.arange(len(similarity)), numbers] = np.inf
        nearest[start : start + rows] = _top(similarity, count)
        on_block(len(similarity))
    return nearest, np.maximum(farthest, 1e-12)


def _encode(features: np.ndarray, nearest: np.ndarray, farthest: np.ndarray, k1: int) -> Sparse:
    """Weights exp(-distance) over each picture's k-reciprocal neighbours, enlarged by those of its neighbours."""
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
        distance = np.square(2 - 2 * (features[chosen] @ features[i])) / farthest[i]
        weight = np.exp(-distance)
        columns.append(chosen)
        weights.append((weight / weight.sum()).astype(np.float32))
        starts.append(starts[-1] + len(chosen))
    return Sparse(np.asarray(starts), np.concatenate(columns), np.concatenate(weights))


def _reciprocal(nearest: np.ndarray, number: int, k: int) -> np.ndarray:
    """Those among the k nearest of a picture that have it among their own k nearest."""
    forward = nearest[number, :k]
    return forward[(nearest[forward, :k] == number).any(axis=1)]


def _average(encoded: Sparse, nearest: np.ndarray) -> Sparse:
    """Each row replaced by the mean of its nearest pictures' rows."""
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
    """For each column, the gallery pictures (counted from 0) that have it, with their weights."""
    begin = encoded.starts[first]
    columns, weights = encoded.columns[begin:], encoded.weights[begin:]
    rows = np.repeat(np.arange(count - first), np.diff(encoded.starts[first:]))
    order = np.argsort(columns, kind="stable")
    starts = np.searchsorted(columns[order], np.arange(count + 1))
    return Sparse(starts, rows[order], weights[order])


def _jaccard(encoded: Sparse, table: Sparse, number: int, gallery: int) -> np.ndarray:
    """1 - sum of minima / sum of maxima of the rows' weights, float32 [gallery]."""
    shared = np.zeros(gallery, np.float32)
    for column, weight in zip(*encoded.row(number), strict=True):
        rows, weights = table.row(int(column))
        shared[rows] += np.minimum(weight, weights)
    # Rows sum to 1, so the sum of maxima is 2 minus the sum of minima.
    return np.asarray(1 - shared / (2 - shared), np.float32)
