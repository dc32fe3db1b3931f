"""Convolutions as products of matrices for CPU training, on the library behind numpy instead of Paddle's own.

Paddle's wheels contain a BLAS that is tuned for few processors: on an AMD Zen 5 core it computes 47 GFLOP/s where
numpy's OpenBLAS computes 235, and products with the few columns of a late map 14 to 28. Batches are split over threads,
the product of each image runs on one: no thread waits for another inside a small product.
"""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from shitu_cli.model.kernels.loops import compiled
from shitu_cli.runtime.arithmetic import current_threads
from shitu_cli.runtime.threads import single_threaded_blas


def product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out = a @ b."""
    split(len(a), lambda start, stop: np.matmul(a[start:stop], b, out=out[start:stop]))


def linear_forward(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, y: np.ndarray) -> None:
    """y = x @ w + bias."""

    def part(start: int, stop: int) -> None:
        np.matmul(x[start:stop], w, out=y[start:stop])
        if bias is not None:
            np.add(y[start:stop], bias, out=y[start:stop])

    split(len(x), part)


def column_sums(x: np.ndarray) -> np.ndarray:
    """Return the sum of the rows of x."""
    parts: list[np.ndarray] = split(len(x), lambda start, stop: x[start:stop].sum(axis=0))
    return np.add.reduce(parts)


def pointwise_forward(x: np.ndarray, w: np.ndarray, y: np.ndarray) -> None:
    """y = convolution of x [N, C, H, W] with w [A, C, 1, 1]."""
    xs, ys, matrix = _rows(x), _rows(y), w.reshape(len(w), -1)
    if xs.shape[2] == 1:
        return product(xs[:, :, 0], matrix.T, ys[:, :, 0])
    split(len(x), lambda start, stop: np.matmul(matrix, xs[start:stop], out=ys[start:stop]))


def pointwise_backward(
    x: np.ndarray, w: np.ndarray, dy: np.ndarray, dx: np.ndarray | None, dw: np.ndarray | None
) -> None:
    """Compute the gradients of pointwise_forward for which there is an array."""
    xs, dys, matrix = _rows(x), _rows(dy), w.reshape(len(w), -1)
    dxs = None if dx is None else _rows(dx)
    if xs.shape[2] == 1:
        if dxs is not None:
            product(dys[:, :, 0], matrix, dxs[:, :, 0])
        if dw is not None:
            product(dys[:, :, 0].T, xs[:, :, 0], dw.reshape(matrix.shape))
        return

    def part(start: int, stop: int) -> np.ndarray | None:
        if dxs is not None:
            np.matmul(matrix.T, dys[start:stop], out=dxs[start:stop])
        if dw is None:
            return None
        total, product = np.zeros_like(matrix), np.empty_like(matrix)
        for n in range(start, stop):
            np.matmul(dys[n], xs[n].T, out=product)
            np.add(total, product, out=total)
        return total

    _sum_into(dw, split(len(x), part))


def dense_forward(x: np.ndarray, w: np.ndarray, stride: int, pads: tuple[int, int], y: np.ndarray) -> None:
    """y = convolution of x [N, C, H, W] with w [A, C, k, k]: each image's windows as columns of a matrix.

    `pads` are the rows above and the columns left of the map that the first window covers.
    """
    ys, matrix = _rows(y), w.reshape(len(w), -1)

    def part(start: int, stop: int) -> None:
        columns = np.empty((matrix.shape[1], ys.shape[2]), np.float32)
        for n in range(start, stop):
            _to_columns(x[n], w.shape[2], stride, pads[0], pads[1], y.shape[2], y.shape[3], columns)
            np.matmul(matrix, columns, out=ys[n])

    split(len(x), part)


def dense_backward(
    x: np.ndarray,
    w: np.ndarray,
    stride: int,
    pads: tuple[int, int],
    dy: np.ndarray,
    dx: np.ndarray | None,
    dw: np.ndarray | None,
) -> None:
    """Compute the gradients of dense_forward for which there is an array."""
    dys, matrix = _rows(dy), w.reshape(len(w), -1)
    kernel, height, width = w.shape[2], dy.shape[2], dy.shape[3]

    def part(start: int, stop: int) -> np.ndarray | None:
        columns = np.empty((matrix.shape[1], dys.shape[2]), np.float32)
        total, product = np.zeros_like(matrix), np.empty_like(matrix)
        for n in range(start, stop):
            if dw is not None:
                _to_columns(x[n], kernel, stride, pads[0], pads[1], height, width, columns)
                np.matmul(dys[n], columns.T, out=product)
                np.add(total, product, out=total)
            if dx is not None:
                np.matmul(matrix.T, dys[n], out=columns)
                _from_columns(columns, kernel, stride, pads[0], pads[1], height, width, dx[n])
        return None if dw is None else total

    _sum_into(dw, split(len(x), part))


def split(count: int, work: Callable[[int, int], Any]) -> list[Any]:
    """Return the results of work(start, stop) over parts of 0 … count, one per thread, in order."""
    threads = max(1, min(current_threads(), count))
    own, *others = pairwise(count * part // threads for part in range(threads + 1))
    with single_threaded_blas():
        waiting = [_pool(current_threads()).submit(work, *part) for part in others]
        return [work(*own), *(part.result() for part in waiting)]


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, threads), thread_name_prefix="shitu-products")


def _rows(maps: np.ndarray) -> np.ndarray:
    """Return x [N, C, H, W] as [N, C, H * W]."""
    return maps.reshape(maps.shape[0], maps.shape[1], -1)


def _sum_into(dw: np.ndarray | None, parts: list[np.ndarray | None]) -> None:
    """dw = the sum of the parts, in their order: the same number of threads always gives the same bits."""
    if dw is None:
        return
    first, *others = (part for part in parts if part is not None)
    for other in others:
        np.add(first, other, out=first)
    dw.reshape(first.shape)[:] = first


@compiled()
def _to_columns(
    x: np.ndarray, kernel: int, stride: int, above: int, pad: int, height: int, width: int, columns: np.ndarray
) -> None:
    """columns[(c, i, j), (r, q)] = x[c, r * stride + i - above, q * stride + j - pad], 0 outside of x [C, H, W]."""
    line = 0
    for c in range(x.shape[0]):
        for i in range(kernel):
            for j in range(kernel):
                first = max(0, (pad - j + stride - 1) // stride)
                last = max(first, min(width, (x.shape[2] - 1 + pad - j) // stride + 1))
                row = columns[line]
                line += 1
                for r in range(height):
                    y = r * stride + i - above
                    out = row[r * width : (r + 1) * width]
                    if y < 0 or y >= x.shape[1]:
                        out[:] = 0
                        continue
                    source = x[c, y]
                    out[:first] = 0
                    for q in range(first, last):
                        out[q] = source[q * stride + j - pad]
                    out[last:] = 0


@compiled()
def _from_columns(
    columns: np.ndarray, kernel: int, stride: int, above: int, pad: int, height: int, width: int, x: np.ndarray
) -> None:
    """Add every entry to the pixel it came from, the transpose of _to_columns; x is overwritten."""
    x[:] = 0
    line = 0
    for c in range(x.shape[0]):
        for i in range(kernel):
            for j in range(kernel):
                first = max(0, (pad - j + stride - 1) // stride)
                last = max(first, min(width, (x.shape[2] - 1 + pad - j) // stride + 1))
                row = columns[line]
                line += 1
                for r in range(height):
                    y = r * stride + i - above
                    if y < 0 or y >= x.shape[1]:
                        continue
                    target, values = x[c, y], row[r * width : (r + 1) * width]
                    for q in range(first, last):
                        target[q * stride + j - pad] += values[q]
