"""Compiled loops over the columns of a class centre matrix [D, C], without temporaries of its size."""

# mypy: disable-error-code="assignment,return-value"
from __future__ import annotations

import numpy as np
from numba import prange

from shitu_cli.model.kernels.loops import compiled

NONE = np.float32(-1e30)  # the logit of an excluded class
BLOCK = 4096  # columns per task: 16 kB of a row, a few rows fit the first-level cache


@compiled(parallel=True)
def inverse_lengths(w: np.ndarray, shortest: float, out: np.ndarray) -> None:
    """out[j] = 1 / max(|w[:, j]|, shortest)."""
    count = w.shape[1]
    for b in prange((count + BLOCK - 1) // BLOCK):
        lo, hi = b * BLOCK, min(count, (b + 1) * BLOCK)
        out[lo:hi] = 0
        for d in range(w.shape[0]):
            row = w[d]
            for j in range(lo, hi):
                out[j] += row[j] * row[j]
        for j in range(lo, hi):
            out[j] = 1 / max(np.sqrt(out[j]), np.float32(shortest))


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


@compiled()
def _top(row: np.ndarray, top: float) -> float:
    """Return the largest of row and `top`."""
    for j in range(row.size):
        top = max(top, row[j])
    return top


@compiled()
def _exp_sum(row: np.ndarray, scale: float, top: float) -> float:
    """Return Σ_j exp(scale * (row[j] - top))."""
    total = np.float32(0)
    for j in range(row.size):
        total += np.exp(scale * (row[j] - top))
    return total


@compiled(parallel=True)
def margin_sums(
    cosines: np.ndarray, inverse: np.ndarray, places: np.ndarray, scale: float, rest: np.ndarray, total: np.ndarray,
    target: np.ndarray,
) -> None:  # fmt: skip
    """cosines[i] *= inverse, in place; per row the target's (0 where its place is -1), and over the other columns
    rest = log Σ exp(scale * cosine) (-1e30 for none) and total = Σ scale * cosine.
    """
    count, s = cosines.shape[1], np.float32(scale)
    for i in prange(cosines.shape[0]):
        row, place = cosines[i], places[i]
        every = 0.0
        for lo in range(0, count, BLOCK):
            part = np.float32(0)
            for j in range(lo, min(count, lo + BLOCK)):
                row[j] *= inverse[j]
                part += row[j]
            every += part
        own = row[place] if place >= 0 else np.float32(0)
        left, right = (row[:place], row[place + 1 :]) if place >= 0 else (row, row[:0])
        target[i] = own
        total[i] = s * (every - own)
        top = _top(right, _top(left, np.float32(-2)))
        rest[i] = NONE if left.size + right.size == 0 else s * top + np.log(
            _exp_sum(left, s, top) + _exp_sum(right, s, top)
        )  # fmt: skip


@compiled()
def _other_gradients(
    row: np.ndarray, inverse: np.ndarray, factor: np.ndarray, scale: float, rest: float, a: float, b: float
) -> None:
    """factor += g * row, row = g * inverse, with g = a * exp(scale * row - rest) + b."""
    for j in range(row.size):
        c = row[j]
        g = a * np.exp(scale * c - rest) + b
        factor[j] += g * c
        row[j] = g * inverse[j]


@compiled(parallel=True)
def margin_gradients(
    cosines: np.ndarray, inverse: np.ndarray, places: np.ndarray, scale: float, rest: np.ndarray, grads: np.ndarray,
    factor: np.ndarray,
) -> None:  # fmt: skip
    """cosines c [N, C] become g * inverse in place, factor[j] = inverse[j]² * Σ_i g_ij c_ij; g = dL/dc from `grads`
    [N, 3], which belong to rest and total of `margin_sums` and the target's cosine.
    """
    count, s = cosines.shape[1], np.float32(scale)
    for block in prange((count + BLOCK - 1) // BLOCK):
        lo, hi = block * BLOCK, min(count, (block + 1) * BLOCK)
        factor[lo:hi] = 0
        for i in range(cosines.shape[0]):
            row, a, b = cosines[i], grads[i, 0] * s, grads[i, 1] * s
            place = places[i] if lo <= places[i] < hi else hi
            _other_gradients(row[lo:place], inverse[lo:place], factor[lo:place], s, rest[i], a, b)
            if place < hi:
                factor[place] += grads[i, 2] * row[place]
                row[place] = grads[i, 2] * inverse[place]
                after = place + 1
                _other_gradients(row[after:hi], inverse[after:hi], factor[after:hi], s, rest[i], a, b)
        for j in range(lo, hi):
            factor[j] *= inverse[j] * inverse[j]
