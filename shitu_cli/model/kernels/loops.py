"""The compiled loops behind the CPU training kernels: depthwise convolution, and batch norm with its activation.

Arrays are float32, C-contiguous, [N, C, H, W]. Every loop is parallel over channels: a channel of a batch fits
the second-level cache, and sums over the batch need no locks.

A map is copied into a buffer with its padding. Seen as one long row, tap (i, j) of a stride 1 convolution is then
a constant shift, so the inner loops run over whole maps (a map of 7 x 7 has 77 steps, not 7 times 7) and turn
into full vector instructions; the few columns that mix two rows are computed and thrown away. For stride 2 the
even and odd rows and columns go to four such buffers.
"""

# mypy: disable-error-code="assignment,operator"
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange

from shitu_cli.compiled import compiled as cached_njit

ACT_NONE, ACT_RELU, ACT_HARDSWISH = 0, 1, 2


# Sums may be reordered into vectors, but NaN and infinity keep their meaning (training has to notice them).
_MATH = {"reassoc", "contract", "arcp", "nsz"}


def compiled(parallel: bool = False, reorder: bool = True) -> Callable[[Callable[..., Any]], Any]:
    """Compiled without the interpreter's lock, in the arithmetic of these kernels.

    Parallel loops do not `reorder` and leave sums to plain functions: otherwise values come out in one way when numba
    has just compiled the loop and in another when it is read from its cache, and a resumed run would differ.
    """
    fastmath = _MATH if reorder and not parallel else {"contract"}
    return cached_njit(fastmath=fastmath, parallel=parallel, nogil=True, error_model="numpy")


@compiled()
def _row_taps(out: np.ndarray, x: np.ndarray, w: np.ndarray, shift: int, count: int) -> None:
    """out[i] += sum_j w[j] * x[i + shift + j] for 3 or 5 taps."""
    src = x[shift:]
    if w.size == 3:
        w0, w1, w2 = w[0], w[1], w[2]
        for i in range(count):
            out[i] += w0 * src[i] + w1 * src[i + 1] + w2 * src[i + 2]
    else:
        w0, w1, w2, w3, w4 = w[0], w[1], w[2], w[3], w[4]
        for i in range(count):
            out[i] += w0 * src[i] + w1 * src[i + 1] + w2 * src[i + 2] + w3 * src[i + 3] + w4 * src[i + 4]


@compiled()
def _row_dots(dw: np.ndarray, d: np.ndarray, x: np.ndarray, shift: int, count: int) -> None:
    """dw[j] += sum_i d[i] * x[i + shift + j] for 3 or 5 taps."""
    src = x[shift:]
    s0 = s1 = s2 = s3 = s4 = np.float32(0)
    if dw.size == 3:
        for i in range(count):
            v = d[i]
            s0 += v * src[i]
            s1 += v * src[i + 1]
            s2 += v * src[i + 2]
    else:
        for i in range(count):
            v = d[i]
            s0 += v * src[i]
            s1 += v * src[i + 1]
            s2 += v * src[i + 2]
            s3 += v * src[i + 3]
            s4 += v * src[i + 4]
        dw[3] += s3
        dw[4] += s4
    dw[0] += s0
    dw[1] += s1
    dw[2] += s2


@compiled()
def _pad(buffer: np.ndarray, plane: np.ndarray, pad: int, width: int) -> None:
    """Copy a map into the interior of its padded row; the border keeps its zeros."""
    for r in range(plane.shape[0]):
        start = (r + pad) * width + pad
        for c in range(plane.shape[1]):
            buffer[start + c] = plane[r, c]


@compiled(parallel=True)
def depthwise_forward(x: np.ndarray, w: np.ndarray, y: np.ndarray) -> None:
    """y = depthwise convolution of x with w [C, 1, k, k], stride 1, same padding."""
    n_images, channels, height, width = x.shape
    k = w.shape[2]
    pad = k // 2
    row = width + 2 * pad
    for c in prange(channels):
        xp = np.zeros((height + 2 * pad) * row + k, np.float32)
        acc = np.empty(height * row, np.float32)
        for n in range(n_images):
            _pad(xp, x[n, c], pad, row)
            acc[:] = 0
            for i in range(k):
                _row_taps(acc, xp, w[c, 0, i], i * row, height * row)
            for r in range(height):
                for q in range(width):
                    y[n, c, r, q] = acc[r * row + q]


@compiled(parallel=True)
def depthwise_backward(x: np.ndarray, w: np.ndarray, dy: np.ndarray, dx: np.ndarray, dw: np.ndarray) -> None:
    """Gradients of depthwise_forward; dw is overwritten."""
    n_images, channels, height, width = x.shape
    k = w.shape[2]
    pad = k // 2
    row = width + 2 * pad
    for c in prange(channels):
        xp = np.zeros((height + 2 * pad) * row + k, np.float32)
        dp = np.zeros((height + 2 * pad) * row + k, np.float32)
        acc = np.empty(height * row, np.float32)
        total = np.zeros((k, k), np.float64)
        part = np.empty(k, np.float32)
        flipped = np.ascontiguousarray(w[c, 0, ::-1, ::-1])
        for n in range(n_images):
            _pad(dp, dy[n, c], pad, row)
            acc[:] = 0
            for i in range(k):
                _row_taps(acc, dp, flipped[i], i * row, height * row)
            for r in range(height):
                for q in range(width):
                    dx[n, c, r, q] = acc[r * row + q]
            _pad(xp, x[n, c], pad, row)
            inner = dp[pad * row + pad :]
            for i in range(k):
                part[:] = 0
                _row_dots(part, inner, xp, i * row, height * row - 2 * pad)
                for j in range(k):
                    total[i, j] += part[j]
        for i in range(k):
            for j in range(k):
                dw[c, 0, i, j] = total[i, j]


@compiled()
def _split(phases: np.ndarray, plane: np.ndarray, pad: int, width: int) -> None:
    """Copy a map into four rows by parity of its padded row and column."""
    for r in range(plane.shape[0]):
        pr = r + pad
        for parity in range(2):
            first = (parity + pad) & 1  # the first column of this parity
            target = phases[pr & 1, parity]
            start = (pr >> 1) * width + ((first + pad) >> 1)
            for m in range((plane.shape[1] - first + 1) >> 1):
                target[start + m] = plane[r, first + 2 * m]


@compiled(parallel=True)
def strided_forward(x: np.ndarray, w: np.ndarray, y: np.ndarray) -> None:
    """y = depthwise convolution of x with w [C, 1, k, k], stride 2, padding k // 2."""
    n_images, channels = x.shape[0], x.shape[1]
    out_h, out_w = y.shape[2], y.shape[3]
    k = w.shape[2]
    pad = k // 2
    row = out_w + pad + 1
    size = (out_h + pad + 1) * row + k
    for c in prange(channels):
        phases = np.zeros((2, 2, size), np.float32)
        acc = np.empty(out_h * row, np.float32)
        for n in range(n_images):
            _split(phases, x[n, c], pad, row)
            acc[:] = 0
            for i in range(k):
                for j in range(k):
                    src = phases[i & 1, j & 1][(i >> 1) * row + (j >> 1) :]
                    tap = w[c, 0, i, j]
                    for m in range(out_h * row):
                        acc[m] += tap * src[m]
            for r in range(out_h):
                for q in range(out_w):
                    y[n, c, r, q] = acc[r * row + q]


@compiled(parallel=True)
def strided_backward(x: np.ndarray, w: np.ndarray, dy: np.ndarray, dx: np.ndarray, dw: np.ndarray) -> None:
    """Gradients of strided_forward; dw is overwritten."""
    n_images, channels, height, width = x.shape
    out_h, out_w = dy.shape[2], dy.shape[3]
    k = w.shape[2]
    pad = k // 2
    row = out_w + pad + 1
    size = (out_h + pad + 1) * row + k
    for c in prange(channels):
        phases = np.zeros((2, 2, size), np.float32)
        back = np.empty((2, 2, size), np.float32)
        grad = np.zeros(out_h * row, np.float32)
        total = np.zeros((k, k), np.float64)
        for n in range(n_images):
            _split(phases, x[n, c], pad, row)
            for r in range(out_h):
                for q in range(out_w):
                    grad[r * row + q] = dy[n, c, r, q]
            back[:] = 0
            for i in range(k):
                for j in range(k):
                    start = (i >> 1) * row + (j >> 1)
                    src = phases[i & 1, j & 1][start:]
                    dst = back[i & 1, j & 1][start:]
                    tap = w[c, 0, i, j]
                    dot = np.float32(0)
                    for m in range(out_h * row):
                        dst[m] += tap * grad[m]
                        dot += src[m] * grad[m]
                    total[i, j] += dot
            for r in range(height):
                pr = r + pad
                for q in range(width):
                    pq = q + pad
                    dx[n, c, r, q] = back[pr & 1, pq & 1, (pr >> 1) * row + (pq >> 1)]
        for i in range(k):
            for j in range(k):
                dw[c, 0, i, j] = total[i, j]


@compiled()
def _sum(x: np.ndarray) -> np.float32:
    total = np.float32(0)
    for i in range(x.size):
        total += x[i]
    return total


@compiled()
def _squares(x: np.ndarray, mu: float) -> np.float32:
    """sum (x - mu) ** 2."""
    total = np.float32(0)
    for i in range(x.size):
        d = x[i] - mu
        total += d * d
    return total


@compiled(parallel=True)
def norm_act_forward(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float, act: int, y: np.ndarray, mean: np.ndarray,
    inverse: np.ndarray, variance: np.ndarray,
) -> None:  # fmt: skip
    """y = act(batch norm of x [N, C, L]); fills the batch's mean, biased variance and 1 / sqrt(variance + eps)."""
    n_images, channels, length = x.shape
    count = n_images * length
    for c in prange(channels):
        total = 0.0
        for n in range(n_images):
            total += _sum(x[n, c])
        mu = np.float32(total / count)
        total = 0.0
        for n in range(n_images):
            total += _squares(x[n, c], mu)
        mean[c] = mu
        variance[c] = total / count
        inv = np.float32(1.0 / np.sqrt(total / count + eps))
        inverse[c] = inv
        a = gamma[c] * inv
        b = beta[c] - a * mu
        for n in range(n_images):
            plane = x[n, c]
            out = y[n, c]
            if act == 2:
                for i in range(length):
                    z = a * plane[i] + b
                    gate = min(max(z + np.float32(3), np.float32(0)), np.float32(6))
                    out[i] = z * gate * np.float32(1 / 6)
            elif act == 1:
                for i in range(length):
                    out[i] = max(a * plane[i] + b, np.float32(0))
            else:
                for i in range(length):
                    out[i] = a * plane[i] + b


@compiled()
def _act_grad(dz: np.ndarray, dy: np.ndarray, x: np.ndarray, a: float, b: float, act: int) -> None:
    """dz = dy * act'(a * x + b)."""
    one, zero = np.float32(1), np.float32(0)
    if act == 2:
        for i in range(x.size):
            z = a * x[i] + b
            slope = z * np.float32(1 / 3) + np.float32(0.5)
            slope = zero if z <= np.float32(-3) else slope
            slope = one if z >= np.float32(3) else slope
            dz[i] = dy[i] * slope
    elif act == 1:
        for i in range(x.size):
            dz[i] = dy[i] if a * x[i] + b > zero else zero
    else:
        for i in range(x.size):
            dz[i] = dy[i]


@compiled()
def _sums(dz: np.ndarray, x: np.ndarray, mu: float) -> tuple[np.float32, np.float32]:
    """(sum dz, sum dz * (x - mu))."""
    part, part_x = np.float32(0), np.float32(0)
    for i in range(x.size):
        part += dz[i]
        part_x += dz[i] * (x[i] - mu)
    return part, part_x


@compiled(reorder=False)
def _center(dz: np.ndarray, x: np.ndarray, a: float, mu: float, shift: float, slope: float) -> None:
    """dz = a * (dz - shift - (x - mu) * slope)."""
    for i in range(x.size):
        dz[i] = a * (dz[i] - shift - (x[i] - mu) * slope)


@compiled(parallel=True)
def norm_act_backward(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, act: int, mean: np.ndarray, inverse: np.ndarray,
    dy: np.ndarray, dx: np.ndarray, dgamma: np.ndarray, dbeta: np.ndarray,
) -> None:  # fmt: skip
    """Gradients of norm_act_forward; nothing but x was kept from there."""
    n_images, channels, length = x.shape
    count = n_images * length
    for c in prange(channels):
        mu, inv = mean[c], inverse[c]
        a = gamma[c] * inv
        b = beta[c] - a * mu
        sum_dz, sum_dzx = 0.0, 0.0
        for n in range(n_images):
            dz, plane = dx[n, c], x[n, c]
            _act_grad(dz, dy[n, c], plane, a, b, act)
            part, part_x = _sums(dz, plane, mu)
            sum_dz += part
            sum_dzx += part_x
        dbeta[c] = sum_dz
        dgamma[c] = sum_dzx * inv
        shift = np.float32(sum_dz / count)
        slope = np.float32(sum_dzx * inv * inv / count)
        for n in range(n_images):
            _center(dx[n, c], x[n, c], a, mu, shift, slope)
