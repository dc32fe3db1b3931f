"""Exact search of a flat index small enough for numpy, so that a search for one image loads no other library.

A matrix product finds candidates. Its rounding depends on the other rows and on the threads, so every vector that
rounding might have kept from the nearest is a candidate too, and all candidates are compared again in float64, each
in one fixed order. A score thus depends on its two vectors alone, and equal vectors tie in every process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from shitu_cli.features.unit_length import lengths

MOST_VALUES = 1 << 24  # of all vectors; faiss compares more of them, on several threads
LONGEST = 1e30  # length of a vector up to which no product overflows
_BLOCK = 1 << 24  # rough similarities that are computed at once


@dataclass(frozen=True)
class FlatVectors:
    """Vectors float32 [N, D] with their ids int64 [N]; neither changes."""

    vectors: np.ndarray
    ids: np.ndarray

    @classmethod
    def of(cls, index: Any) -> FlatVectors:
        """Return the vectors of a flat index of faiss that maps ids."""
        import faiss

        vectors = faiss.downcast_index(index.index).reconstruct_n(0, index.ntotal)
        return cls(vectors, faiss.vector_to_array(index.id_map))

    def in_faiss(self) -> Any:
        """Return an index of faiss that holds them under their ids."""
        import faiss

        index = faiss.IndexIDMap2(faiss.IndexFlatIP(self.vectors.shape[1]))
        index.add_with_ids(self.vectors, self.ids)
        return index

    @property
    def is_finite(self) -> bool:
        """Whether all values are finite, and small enough to be multiplied."""
        return self._longest <= LONGEST  # False for NaN

    @cached_property
    def _longest(self) -> float:
        return float(lengths(self.vectors).max(initial=0.0))

    def nearest(self, queries: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
        """Return scores float32 and ids int64 [n, top] of the vectors nearest to unit vectors [n, D].

        The best come first, equal scores by id; `top` is at most N.
        """
        scores, ids = np.empty((len(queries), top), np.float32), np.empty((len(queries), top), np.int64)
        step = max(1, _BLOCK // len(self.vectors))
        for start in range(0, len(queries), step):
            for number, rough in enumerate(queries[start : start + step] @ self.vectors.T, start):
                scores[number], ids[number] = self._best(queries[number], rough, top)
        return scores, ids

    def _best(self, query: np.ndarray, rough: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
        """Return scores and ids of the best; `rough` float32 [N] are the similarities of the matrix product."""
        near = np.flatnonzero(rough >= np.partition(rough, -top)[-top] - self._error_bound)
        products = np.multiply(self.vectors[near], query, dtype=np.float64)
        scores = products.sum(axis=1).astype(np.float32)
        best = np.lexsort((self.ids[near], -scores))[:top]
        return scores[best], self.ids[near[best]]

    @cached_property
    def _error_bound(self) -> np.float32:
        """The largest difference of two rough similarities that may be in the wrong order.

        A sum of D products in float32 is off by at most D · 2^-24 of the vectors' lengths in any order of adding
        (Higham 2002, section 3.1), each of the two in either direction; a little more covers what is rounded after it.
        """
        size = self.vectors.shape[1]
        return np.float32(2.1 * (size + 8) * math.ldexp(1.0, -24) * self._longest)
