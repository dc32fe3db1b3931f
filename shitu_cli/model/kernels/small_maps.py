"""Depthwise convolution of small maps as products of matrices.

A channel's convolution is a linear map of its H * W inputs to its outputs. For maps of few pixels its matrix, which
holds each weight once per output, is hardly larger than the convolution's own work, and products run near the
processor's peak where loops over rows of three or six pixels do not.
"""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import prange

from shitu_cli.model.kernels.loops import compiled
from shitu_cli.model.kernels.products import split


def worthwhile(height: int, width: int, kernel: int) -> bool:
    """Return whether the matrix takes at most four times the work of the convolution."""
    return height * width <= 4 * kernel * kernel


def forward(x: np.ndarray, w: np.ndarray, stride: int, y: np.ndarray, top: int = 0, left: int = 0) -> None:
    """y = depthwise convolution of x [N, C, H, W] with w [C, 1, k, k], padding k // 2, as loops.depthwise_forward."""
    matrices = _matrices(w, x.shape[2], x.shape[3], stride, top, left)
    xs, ys = _by_channel(x), _by_channel(y)
    split(len(xs), lambda start, stop: np.matmul(xs[start:stop], matrices[start:stop], out=ys[start:stop]))


def backward(
    x: np.ndarray, w: np.ndarray, stride: int, dy: np.ndarray, dx: np.ndarray, dw: np.ndarray, top: int = 0,
    left: int = 0,
) -> None:  # fmt: skip
    """Compute the gradients of `forward`; dw is overwritten."""
    matrices = _matrices(w, x.shape[2], x.shape[3], stride, top, left)
    xs, dxs, dys = _by_channel(x), _by_channel(dx), _by_channel(dy)
    d_matrices = np.empty_like(matrices)

    def part(start: int, stop: int) -> None:
        np.matmul(dys[start:stop], matrices[start:stop].transpose(0, 2, 1), out=dxs[start:stop])
        np.matmul(xs[start:stop].transpose(0, 2, 1), dys[start:stop], out=d_matrices[start:stop])

    split(len(xs), part)
    taps, places = _plan(x.shape[2], x.shape[3], w.shape[2], stride, top, left)
    _gather(d_matrices.reshape(len(w), -1), taps, places, dw.reshape(len(w), -1))


def _by_channel(maps: np.ndarray) -> np.ndarray:
    """Return a view of [N, C, H, W] as [C, N, H * W]."""
    return maps.reshape(maps.shape[0], maps.shape[1], -1).transpose(1, 0, 2)


def _matrices(w: np.ndarray, height: int, width: int, stride: int, top: int, left: int) -> np.ndarray:
    """Return one matrix per channel, [C, H * W, outputs]."""
    taps, places = _plan(height, width, w.shape[2], stride, top, left)
    outputs = ((height - 1 - top) // stride + 1) * ((width - 1 - left) // stride + 1)
    out = np.empty((len(w), height * width * outputs), np.float32)
    _spread(w.reshape(len(w), -1), taps, places, out)
    return out.reshape(len(w), height * width, outputs)


@lru_cache(maxsize=64)
def _plan(height: int, width: int, kernel: int, stride: int, top: int, left: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which weight goes where in the matrix of a channel."""
    pad = kernel // 2
    row, column = np.meshgrid(np.arange(top, height, stride), np.arange(left, width, stride), indexing="ij")
    i, j = np.meshgrid(np.arange(kernel), np.arange(kernel), indexing="ij")
    source_row = row.reshape(1, -1) + i.reshape(-1, 1) - pad
    source_column = column.reshape(1, -1) + j.reshape(-1, 1) - pad
    inside = (source_row >= 0) & (source_row < height) & (source_column >= 0) & (source_column < width)
    taps, outputs = np.nonzero(inside)
    return taps, (source_row * width + source_column)[inside] * row.size + outputs


@compiled(parallel=True)
def _spread(w: np.ndarray, taps: np.ndarray, places: np.ndarray, out: np.ndarray) -> None:
    for c in prange(len(w)):
        row, weights = out[c], w[c]
        row[:] = 0
        for m in range(taps.size):
            row[places[m]] = weights[taps[m]]


@compiled(parallel=True)
def _gather(d: np.ndarray, taps: np.ndarray, places: np.ndarray, dw: np.ndarray) -> None:
    for c in prange(len(d)):
        row, weights = d[c], dw[c]
        weights[:] = 0
        for m in range(taps.size):
            weights[taps[m]] += row[places[m]]
