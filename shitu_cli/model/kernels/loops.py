"""The compiled loops behind the CPU training kernels: depthwise convolution, and batch norm with its activation.

Arrays are float32, C-contiguous, [N, C, H, W]. Every loop is parallel over channels: a channel of a batch fits
the second-level cache, and sums over the batch need no locks.

A map is copied into a buffer with its padding. Seen as one long row, tap (i, j) of a stride 1 convolution is then
a constant shift, so the inner loops run over whole maps (a map of 7 x 7 has 77 steps, not 7 times 7) and turn
into full vector instructions; the few columns that mix two rows are computed and discarded, as are those that a
stride skips.
"""

# mypy: disable-error-code="assignment,operator"
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange

from shitu_cli.model.kernels import ACT_HARDSWISH, ACT_RELU, ACT_RELU6
from shitu_cli.runtime.compilation import compiled as cached_njit

U = np.uintp  # an index that is never negative: only with such do loops with offsets become vector instructions


# Sums may be reordered into vectors, but NaN and infinity keep their meaning (training has to notice them).
_MATH = {"reassoc", "contract", "arcp", "nsz"}


def compiled(parallel: bool = False, reorder: bool = True) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles without the interpreter lock, in the arithmetic of these kernels.

    Parallel loops do not `reorder` and leave sums to plain functions: otherwise a loop that numba has just compiled
    computes other bits than one read from its cache, and a resumed run would differ.
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
def _pad(buffer: np.ndarray, plane: np.ndarray, pad: int, width: int, stride: int, first: int = 0) -> None:
    """Copy a map into its padded row, `stride` apart each way from pixel `first` on; those in between stay zero."""
    step = U(stride)
    for r in range(plane.shape[0]):
        start = U((r * stride + pad) * width + pad + first)
        for q in range(plane.shape[1]):
            buffer[start + U(q) * step] = plane[r, q]


@compiled()
def _crop(plane: np.ndarray, rows: np.ndarray, width: int, stride: int, first: int = 0) -> None:
    """Copy a map from rows of `width`, every `stride`-th pixel each way from pixel `first` on."""
    step = U(stride)
    for r in range(plane.shape[0]):
        start = U(r * width + first)
        for q in range(plane.shape[1]):
            plane[r, q] = rows[start + U(q) * step]


@compiled(parallel=True)
def depthwise_forward(x: np.ndarray, w: np.ndarray, stride: int, y: np.ndarray, top: int = 0, left: int = 0) -> None:
    """y = depthwise convolution of x with w [C, 1, k, k], padding k // 2; centred on row `top`, column `left` first."""
    n_images, channels, height, width = x.shape
    k = w.shape[2]
    pad = k // 2
    row = width + 2 * pad
    for c in prange(channels):
        xp = np.zeros((height + 2 * pad) * row + k, np.float32)
        acc = np.empty(height * row, np.float32)
        for n in range(n_images):
            _pad(xp, x[n, c], pad, row, 1)
            acc[:] = 0
            for i in range(k):
                _row_taps(acc, xp, w[c, 0, i], i * row, height * row)
            if stride == 1:  # a constant makes it a plain copy
                _crop(y[n, c], acc, row, 1)
            else:
                _crop(y[n, c], acc, row * stride, stride, top * row + left)


@compiled(parallel=True)
def depthwise_backward(
    x: np.ndarray, w: np.ndarray, stride: int, dy: np.ndarray, dx: np.ndarray, dw: np.ndarray, top: int = 0,
    left: int = 0,
) -> None:  # fmt: skip
    """Compute the gradients of depthwise_forward; dw is overwritten.

    With a stride, dy is spread over the map, zeros between: the work of stride 1, but all of it vector instructions.
    """
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
            if stride == 1:
                _pad(dp, dy[n, c], pad, row, 1)
            else:
                _pad(dp, dy[n, c], pad, row, stride, top * row + left)
            acc[:] = 0
            for i in range(k):
                _row_taps(acc, dp, flipped[i], i * row, height * row)
            _crop(dx[n, c], acc, row, 1)
            _pad(xp, x[n, c], pad, row, 1)
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


@compiled(reorder=False)
def _act(out: np.ndarray, x: np.ndarray, a: float, b: float, act: int) -> None:
    """out = act(a * x + b)."""
    if act == ACT_HARDSWISH:
        for i in range(x.size):
            z = a * x[i] + b
            gate = min(max(z + np.float32(3), np.float32(0)), np.float32(6))
            out[i] = z * gate * np.float32(1 / 6)
    elif act == ACT_RELU:
        for i in range(x.size):
            out[i] = max(a * x[i] + b, np.float32(0))
    elif act == ACT_RELU6:
        for i in range(x.size):
            out[i] = min(max(a * x[i] + b, np.float32(0)), np.float32(6))
    else:
        for i in range(x.size):
            out[i] = a * x[i] + b


@compiled(reorder=False)
def _times(x: np.ndarray, factor: float) -> None:
    for i in range(x.size):
        x[i] *= factor


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
            _act(y[n, c], x[n, c], a, b, act)


@compiled()
def _act_grad(dz: np.ndarray, dy: np.ndarray, x: np.ndarray, a: float, b: float, act: int) -> None:
    """dz = dy * act'(a * x + b)."""
    one, zero = np.float32(1), np.float32(0)
    if act == ACT_HARDSWISH:
        for i in range(x.size):
            z = a * x[i] + b
            slope = z * np.float32(1 / 3) + np.float32(0.5)
            slope = zero if z <= np.float32(-3) else slope
            slope = one if z >= np.float32(3) else slope
            dz[i] = dy[i] * slope
    elif act == ACT_RELU:
        for i in range(x.size):
            dz[i] = dy[i] if a * x[i] + b > zero else zero
    elif act == ACT_RELU6:
        for i in range(x.size):
            z = a * x[i] + b
            dz[i] = dy[i] if (z > zero) & (z < np.float32(6)) else zero
    else:
        for i in range(x.size):
            dz[i] = dy[i]


@compiled()
def _sums(dz: np.ndarray, x: np.ndarray, mu: float) -> tuple[np.float32, np.float32]:
    """Return (sum dz, sum dz * (x - mu))."""
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
    """Compute the gradients of norm_act_forward, which stored only x."""
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


@compiled(parallel=True)
def fixed_norm_act_forward(x: np.ndarray, slope: np.ndarray, shift: np.ndarray, act: int, y: np.ndarray) -> None:
    """y = act(slope * x + shift) of x [N, C, L], a slope and a shift for each channel."""
    for c in prange(x.shape[1]):
        for n in range(x.shape[0]):
            _act(y[n, c], x[n, c], slope[c], shift[c], act)


@compiled(parallel=True)
def fixed_norm_act_backward(
    x: np.ndarray, slope: np.ndarray, shift: np.ndarray, act: int, dy: np.ndarray, dx: np.ndarray, mean: np.ndarray,
    dbeta: np.ndarray, dgamma: np.ndarray,
) -> None:  # fmt: skip
    """Compute dbeta = sum dz, dgamma = sum dz * (x - mean) and dx = slope * dz of fixed_norm_act_forward."""
    for c in prange(x.shape[1]):
        total, total_x = 0.0, 0.0
        for n in range(x.shape[0]):
            dz = dx[n, c]
            _act_grad(dz, dy[n, c], x[n, c], slope[c], shift[c], act)
            part, part_x = _sums(dz, x[n, c], mean[c])
            total += part
            total_x += part_x
            _times(dz, slope[c])
        dbeta[c] = total
        dgamma[c] = total_x
