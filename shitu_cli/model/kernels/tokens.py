"""Layers of transformers for CPU training: attention without copies of its parts, GELU, and layer norm.

Attention keeps no weights [T, T] for the backward pass: they are computed again, image by image, in the processor's
cache. The exponential function is a polynomial that becomes vector instructions; it is exact to 2e-7.
"""

# mypy: disable-error-code="override,no-untyped-call,assignment"
from __future__ import annotations

from typing import Any

import numpy as np
import paddle
from paddle.autograd import PyLayer

from shitu_cli.model import kernels
from shitu_cli.model.kernels.loops import compiled
from shitu_cli.model.kernels.products import split

_LOG2_E, _HALF, _ONE = np.float32(1.4426950408889634), np.float32(0.5), np.float32(1)
_LEAST = np.float32(-126)  # 2 to the power of less is no normal number
_ROOT_HALF, _DENSITY = np.float32(0.7071067811865476), np.float32(0.3989422804014327)


@compiled()
def _exp(x: float) -> np.float32:
    """exp(x) for x at most 0; Taylor's series of 2 ** f for |f| <= 1/2. What is not a number stays so."""
    power = x * _LOG2_E
    power = _LEAST if power < _LEAST else power
    whole = np.floor(power + _HALF)
    f = power - whole
    series = np.float32(1.5403530e-4)
    series = series * f + np.float32(1.3333558e-3)
    series = series * f + np.float32(9.6181291e-3)
    series = series * f + np.float32(5.5504109e-2)
    series = series * f + np.float32(0.24022651)
    series = series * f + np.float32(0.69314718)
    series = series * f + _ONE
    return series * np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)


@compiled()
def _softmax(s: np.ndarray) -> None:
    """Replace each row of s by its softmax."""
    for r in range(s.shape[0]):
        row = s[r]
        most = row[0]
        for i in range(row.size):
            most = max(most, row[i])
        total = np.float32(0)
        for i in range(row.size):
            row[i] = _exp(row[i] - most)
            total += row[i]
        factor = _ONE / total
        for i in range(row.size):
            row[i] *= factor


@compiled()
def _softmax_gradient(d: np.ndarray, p: np.ndarray) -> None:
    """d [T, T], the gradient of the softmax p, becomes that of its input."""
    for r in range(d.shape[0]):
        row, weights = d[r], p[r]
        total = np.float32(0)
        for i in range(row.size):
            total += row[i] * weights[i]
        for i in range(row.size):
            row[i] = (row[i] - total) * weights[i]


@compiled()
def _tail(x: float, density: float) -> np.float32:
    """Return the normal distribution's mass below -|x|, where density = exp(-x * x / 2); Abramowitz, Stegun 7.1.26."""
    t = _ONE / (_ONE + np.float32(0.3275911) * abs(x) * _ROOT_HALF)
    series = np.float32(1.061405429)
    series = series * t - np.float32(1.453152027)
    series = series * t + np.float32(1.421413741)
    series = series * t - np.float32(0.284496736)
    series = series * t + np.float32(0.254829592)
    return _HALF * series * t * density


@compiled()
def _gelu_forward(x: np.ndarray, y: np.ndarray) -> None:
    for i in range(x.size):
        tail = _tail(x[i], _exp(-_HALF * x[i] * x[i]))
        y[i] = x[i] * (tail if x[i] < 0 else _ONE - tail)


@compiled()
def _gelu_backward(x: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    for i in range(x.size):
        density = _exp(-_HALF * x[i] * x[i])
        tail = _tail(x[i], density)
        dx[i] = dy[i] * ((tail if x[i] < 0 else _ONE - tail) + x[i] * _DENSITY * density)


@compiled()
def _scale_backward(x: np.ndarray, gamma: np.ndarray, dy: np.ndarray, dx: np.ndarray, dgamma: np.ndarray) -> None:
    """Fill dx, and add to dgamma."""
    for m in range(x.shape[0]):
        row, d, out = x[m], dy[m], dx[m]
        for i in range(row.size):
            dgamma[i] += d[i] * row[i]
            out[i] = d[i] * gamma[i]


@compiled()
def _norm_forward(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float, y: np.ndarray, mean: np.ndarray,
    inverse: np.ndarray,
) -> None:  # fmt: skip
    for m in range(x.shape[0]):
        row, out = x[m], y[m]
        total = np.float32(0)
        for i in range(row.size):
            total += row[i]
        mu = total / np.float32(row.size)
        total = np.float32(0)
        for i in range(row.size):
            total += (row[i] - mu) * (row[i] - mu)
        inv = np.float32(1 / np.sqrt(total / np.float32(row.size) + np.float32(epsilon)))
        mean[m], inverse[m] = mu, inv
        for i in range(row.size):
            out[i] = (row[i] - mu) * inv * gamma[i] + beta[i]


@compiled()
def _norm_backward(
    x: np.ndarray, gamma: np.ndarray, mean: np.ndarray, inverse: np.ndarray, dy: np.ndarray, dx: np.ndarray,
    dgamma: np.ndarray, dbeta: np.ndarray,
) -> None:  # fmt: skip
    """Fill dx, and add to dgamma and dbeta."""
    for m in range(x.shape[0]):
        row, d, out, mu, inv = x[m], dy[m], dx[m], mean[m], inverse[m]
        total, total_x = np.float32(0), np.float32(0)
        for i in range(row.size):
            scaled = d[i] * gamma[i]
            total += scaled
            total_x += scaled * (row[i] - mu)
        shift = total / np.float32(row.size)
        slope = total_x * inv * inv / np.float32(row.size)
        for i in range(row.size):
            dgamma[i] += d[i] * (row[i] - mu) * inv
            dbeta[i] += d[i]
            out[i] = inv * (d[i] * gamma[i] - shift - (row[i] - mu) * slope)


class Attention(PyLayer):
    """softmax(q kᵀ / sqrt(d)) v of q, k and v side by side in [N, T, 3 * W], for each of `heads`; [N, T, W]."""

    @staticmethod
    def forward(ctx: Any, qkv: paddle.Tensor, heads: int) -> paddle.Tensor:
        count, tokens, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
        y = paddle.empty([count, tokens, width], dtype="float32")
        parts, out = kernels.array(qkv), kernels.array(y)

        def part(start: int, stop: int) -> None:
            weights = np.empty((tokens, tokens), np.float32)
            for n in range(start, stop):
                for (q, k, v), target in zip(_heads(parts[n], heads), _slices(out[n], heads), strict=True):
                    _weights(q, k, weights)
                    np.matmul(weights, v, out=target)

        split(count, part)
        ctx.save_for_backward(qkv)
        ctx.heads = heads
        return y

    @staticmethod
    def backward(ctx: Any, dy: paddle.Tensor) -> paddle.Tensor:
        (qkv,) = ctx.saved_tensor()
        gradient, tokens, heads = paddle.empty_like(qkv), qkv.shape[1], ctx.heads
        parts, d_parts, d = kernels.array(qkv), kernels.array(gradient), kernels.array(dy)
        scale = np.float32((qkv.shape[2] // 3 // heads) ** -0.5)

        def part(start: int, stop: int) -> None:
            weights, inner = (np.empty((tokens, tokens), np.float32) for _ in range(2))
            for n in range(start, stop):
                rows = zip(_heads(parts[n], heads), _heads(d_parts[n], heads), _slices(d[n], heads), strict=True)
                for (q, k, v), (dq, dk, dv), own in rows:
                    _weights(q, k, weights)
                    np.matmul(weights.T, own, out=dv)
                    np.matmul(own, v.T, out=inner)
                    _softmax_gradient(inner, weights)
                    np.matmul(inner, k * scale, out=dq)
                    np.matmul(inner.T, q * scale, out=dk)

        split(len(parts), part)
        return gradient


class Gelu(PyLayer):
    """x Φ(x), with the exact distribution."""

    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor) -> paddle.Tensor:
        y = paddle.empty(x.shape, dtype="float32")
        source, target = kernels.array(x).reshape(-1), kernels.array(y).reshape(-1)
        split(source.size, lambda start, stop: _gelu_forward(source[start:stop], target[start:stop]))
        ctx.save_for_backward(x)
        return y

    @staticmethod
    def backward(ctx: Any, dy: paddle.Tensor) -> paddle.Tensor:
        (x,) = ctx.saved_tensor()
        dx = paddle.empty_like(x)
        source, d, target = (kernels.array(tensor).reshape(-1) for tensor in (x, dy, dx))
        split(source.size, lambda start, stop: _gelu_backward(source[start:stop], d[start:stop], target[start:stop]))
        return dx


class Scale(PyLayer):
    """x * gamma, a number for each place of the last axis."""

    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, gamma: paddle.Tensor) -> paddle.Tensor:
        y = paddle.empty(x.shape, dtype="float32")
        (rows, out), slope = (_rows(tensor) for tensor in (x, y)), kernels.array(gamma)
        split(len(rows), lambda a, b: np.multiply(rows[a:b], slope, out=out[a:b]))
        ctx.save_for_backward(x, gamma)
        ctx.needs_grad = [not tensor.stop_gradient for tensor in (x, gamma)]
        return y

    @staticmethod
    def backward(ctx: Any, dy: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        x, gamma = ctx.saved_tensor()
        dx = paddle.empty_like(x)
        (rows, d, out), slope = (_rows(tensor) for tensor in (x, dy, dx)), kernels.array(gamma)

        def part(a: int, b: int) -> np.ndarray:
            sums = np.zeros(slope.size, np.float32)
            _scale_backward(rows[a:b], slope, d[a:b], out[a:b], sums)
            return sums

        return kernels.only(ctx.needs_grad, dx, paddle.to_tensor(np.add.reduce(split(len(rows), part))))


class LayerNorm(PyLayer):
    """Layer norm of the last axis."""

    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, gamma: paddle.Tensor, beta: paddle.Tensor, epsilon: float) -> paddle.Tensor:
        y = paddle.empty(x.shape, dtype="float32")
        rows, out = _rows(x), _rows(y)
        mean, inverse = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
        slope, shift = kernels.array(gamma), kernels.array(beta)
        split(
            len(rows),
            lambda a, b: _norm_forward(rows[a:b], slope, shift, epsilon, out[a:b], mean[a:b], inverse[a:b]),
        )
        ctx.save_for_backward(x, gamma)
        ctx.statistics = mean, inverse
        ctx.needs_grad = [not tensor.stop_gradient for tensor in (x, gamma, beta)]
        return y

    @staticmethod
    def backward(ctx: Any, dy: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        x, gamma = ctx.saved_tensor()
        mean, inverse = ctx.statistics
        dx, width = paddle.empty_like(x), x.shape[-1]
        rows, d, out = (_rows(tensor) for tensor in (x, dy, dx))
        slope = kernels.array(gamma)

        def part(a: int, b: int) -> np.ndarray:
            sums = np.zeros((2, width), np.float32)
            _norm_backward(rows[a:b], slope, mean[a:b], inverse[a:b], d[a:b], out[a:b], sums[0], sums[1])
            return sums

        dgamma, dbeta = np.add.reduce(split(len(rows), part))
        return kernels.only(ctx.needs_grad, dx, paddle.to_tensor(dgamma), paddle.to_tensor(dbeta))


def _rows(tensor: paddle.Tensor) -> np.ndarray:
    """Return the memory of [..., W] as rows [M, W]."""
    return kernels.array(tensor).reshape(-1, tensor.shape[-1])


def _weights(q: np.ndarray, k: np.ndarray, out: np.ndarray) -> None:
    """out [T, T] = softmax(q kᵀ / sqrt(d)) of q and k [T, d]."""
    np.matmul(q * np.float32(q.shape[1] ** -0.5), k.T, out=out)
    _softmax(out)


def _heads(parts: np.ndarray, heads: int) -> list[tuple[np.ndarray, ...]]:
    """Return views of q, k and v [T, d] of each head in [T, 3 * W]."""
    views = _slices(parts, 3 * heads)
    return [tuple(views[part * heads + head] for part in range(3)) for head in range(heads)]


def _slices(maps: np.ndarray, count: int) -> list[np.ndarray]:
    """Return `count` views of as many columns each."""
    size = maps.shape[1] // count
    return [maps[:, number * size : (number + 1) * size] for number in range(count)]
