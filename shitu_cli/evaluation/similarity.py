"""Similarities of features, in an arithmetic that does not depend on what is computed beside them.

A sum of float32 products is rounded by the order in which its terms are added. A BLAS chooses that order by the shapes
of the matrices, by its number of threads and by the place in the matrix: one vector comes out differently alone and
among 512, and two copies of an image are not equally similar. Where features nearly coincide, that decides rankings.
Here every sum runs from the first term to the last, so that its bits follow from the two vectors alone: equal images
tie, and any block size, thread or process gives the same. It takes about 1.3 times as long as a BLAS
(benchmarks/evaluate.py --ways products "BLAS products"), which is little beside computing the features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np

from shitu_cli.features.unit_length import lengths
from shitu_cli.runtime.threads import compute_threads

PANEL = 256  # gallery images whose features lie side by side in the second-level cache
LINE = 64  # bytes of a cache line
TERMS = 8  # of each sum that are added before it goes back to memory

Block = Callable[[np.ndarray], np.ndarray]  # numbers of queries int64 [n] → their similarities float32 [n, G]


class Similarities:
    """Inner products of query features [Q, D] with gallery features [G, D], both float32.

    Called with numbers of queries int64 [n], returns float32 [n, G], in `out` where it is given.
    """

    def __init__(self, query: np.ndarray, gallery: np.ndarray, *, threads: int | None = None) -> None:
        self._query, self._gallery = query, gallery
        self._threads = threads or compute_threads()

    def __call__(self, numbers: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        out = np.empty((len(numbers), len(self._gallery)), np.float32) if out is None else out
        kernel, size = _kernel(), self._query.shape[1]
        terms = -(-size // TERMS) * TERMS
        query = np.zeros((len(numbers), terms), np.float32)  # products with zeros leave every sum as it is
        query[:, :size] = self._query[numbers]

        def work(first: int) -> None:
            panel, products = _aligned_zeros(terms, PANEL), _aligned_zeros(len(query), PANEL)
            for left in range(first, len(self._gallery), PANEL * self._threads):
                rows = self._gallery[left : left + PANEL]
                panel[:size, : len(rows)] = rows.T
                kernel(query, panel, products)
                out[:, left : left + len(rows)] = products[:, : len(rows)]

        with ThreadPoolExecutor(self._threads, thread_name_prefix="shitu-products") as pool:
            for _ in pool.map(work, range(0, PANEL * self._threads, PANEL)):
                pass
        return out


def equal_bits(query: np.ndarray, gallery: np.ndarray) -> Block:
    """Return cosines of binary features float32 [Q, D] and [G, D] from their Hamming distances.

    Sums of signs are whole numbers: pairs that differ in equally many bits tie, whatever the length of the rows.
    """
    bits = query.shape[1]
    products = Similarities(*(np.where(rows > 0, np.float32(1), np.float32(-1)) for rows in (query, gallery)))
    return lambda numbers: products(numbers) / np.float32(bits)


def _aligned_zeros(rows: int, columns: int) -> np.ndarray:
    """Return zeros float32 [rows, columns] that begin with a cache line: vectors across two lines load slowly."""
    memory = np.zeros(rows * columns * 4 + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + rows * columns * 4].view(np.float32).reshape(rows, columns)


@lru_cache(maxsize=1)
def _kernel() -> Callable[[np.ndarray, np.ndarray, np.ndarray], None]:
    from shitu_cli.runtime.compilation import compiled

    # The sums are not reordered ("reassoc" is left out): the loop over images becomes vector instructions instead.
    @compiled(nogil=True, fastmath={"contract"}, error_model="numpy")
    def multiply(query: Any, panel: Any, out: Any) -> None:
        out[:] = 0
        for d in range(0, query.shape[1], 8):
            p0, p1, p2, p3 = panel[d], panel[d + 1], panel[d + 2], panel[d + 3]
            p4, p5, p6, p7 = panel[d + 4], panel[d + 5], panel[d + 6], panel[d + 7]
            for r in range(query.shape[0]):
                q0, q1, q2, q3 = query[r, d], query[r, d + 1], query[r, d + 2], query[r, d + 3]
                q4, q5, q6, q7 = query[r, d + 4], query[r, d + 5], query[r, d + 6], query[r, d + 7]
                row = out[r]
                for g in range(panel.shape[1]):
                    total = row[g] + q0 * p0[g] + q1 * p1[g] + q2 * p2[g] + q3 * p3[g]
                    row[g] = total + q4 * p4[g] + q5 * p5[g] + q6 * p6[g] + q7 * p7[g]

    return multiply


def resolution(query: np.ndarray, gallery: np.ndarray) -> float:
    """Return the difference of two similarities below which rounding decides which of them is the larger one.

    A float32 sum of D products is off by about sqrt(D) · 2^-24 of the vectors' lengths (Higham and Mary 2019,
    doi:10.1137/18M1226312), and each of the two may be off in either direction.
    """
    return 2 * math.sqrt(query.shape[1]) * 2.0**-24 * largest_length(query) * largest_length(gallery)


def largest_length(features: np.ndarray) -> float:
    """Return the largest Euclidean length among the rows of [N, D], computed in float64; 0 without rows."""
    return float(lengths(features).max(initial=0.0))
