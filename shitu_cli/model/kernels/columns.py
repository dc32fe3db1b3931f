"""Compiled loops over the columns of a class centre matrix [D, C], without temporaries of its size."""

from __future__ import annotations

import numpy as np
from numba import prange

from shitu_cli.model.kernels.loops import compiled

BLOCK = 4096  # columns per task: 16 kB of a row, a few rows fit the first-level cache


@compiled(parallel=True)
def inverse_lengths(w: np.ndarray, out: np.ndarray) -> None:
    """out[j] = 1 / |w[:, j]|."""
    count = w.shape[1]
    for b in prange((count + BLOCK - 1) // BLOCK):
        lo, hi = b * BLOCK, min(count, (b + 1) * BLOCK)
        out[lo:hi] = 0
        for d in range(w.shape[0]):
            row = w[d]
            for j in range(lo, hi):
                out[j] += row[j] * row[j]
        for j in range(lo, hi):
            out[j] = 1 / np.sqrt(out[j])


@compiled(parallel=True)
def subtract_scaled(dw: np.ndarray, w: np.ndarray, factor: np.ndarray) -> None:
    """dw[d, j] -= w[d, j] * factor[j]."""
    for d in prange(w.shape[0]):
        target, row = dw[d], w[d]
        for j in range(row.size):
            target[j] -= row[j] * factor[j]


@compiled(parallel=True)
def take(w: np.ndarray, chosen: np.ndarray, out: np.ndarray) -> None:
    """out = w[:, chosen]."""
    for d in prange(w.shape[0]):
        target, row = out[d], w[d]
        for j in range(chosen.size):
            target[j] = row[chosen[j]]


@compiled(parallel=True)
def put(values: np.ndarray, chosen: np.ndarray, out: np.ndarray) -> None:
    """out = 0, then out[:, chosen] = values."""
    for d in prange(out.shape[0]):
        target, row = out[d], values[d]
        target[:] = 0
        for j in range(chosen.size):
            target[chosen[j]] = row[j]
