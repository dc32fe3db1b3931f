"""The compiled loops of transformers for CPU training (`branches`), and their layer norm as an operator.

Arrays are float32, a token in each row. The exponential function is a polynomial that becomes vector instructions; it
is exact to 2e-7.
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
def softmax(s: np.ndarray, most: np.ndarray) -> None:
    """Replace each row of s by its softmax; `most` are the largest of each row."""
    for r in range(s.shape[0]):
        row, largest = s[r], most[r]
        total = np.float32(0)
        for i in range(row.size):
            row[i] = _exp(row[i] - largest)
            total += row[i]
        factor = _ONE / total
        for i in range(row.size):
            row[i] *= factor


@compiled()
def softmax_backward(d: np.ndarray, p: np.ndarray) -> None:
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
def gelu_forward(x: np.ndarray, y: np.ndarray) -> None:
    """y = x Φ(x), with the exact distribution."""
    for i in range(x.size):
        tail = _tail(x[i], _exp(-_HALF * x[i] * x[i]))
        y[i] = x[i] * (tail if x[i] < 0 else _ONE - tail)


@compiled()
def gelu_backward(x: np.ndarray, dy: np.ndarray, dx: np.ndarray, y: np.ndarray) -> None:
    """Fill dx, and y again."""
    for i in range(x.size):
        density = _exp(-_HALF * x[i] * x[i])
        tail = _tail(x[i], density)
        below = tail if x[i] < 0 else _ONE - tail
        y[i] = x[i] * below
        dx[i] = dy[i] * (below + x[i] * _DENSITY * density)


@compiled()
def add_rows(y: np.ndarray, x: np.ndarray, bias: np.ndarray) -> None:
    """y += x + bias, a number for each column."""
    for r in range(y.shape[0]):
        row, more = y[r], x[r]
        for i in range(row.size):
            row[i] += more[i] + bias[i]


@compiled()
def _statistics(row: np.ndarray, epsilon: float) -> tuple[np.float32, np.float32]:
    """Return the mean and 1 / sqrt(variance + epsilon)."""
    total = np.float32(0)
    for i in range(row.size):
        total += row[i]
    mean = total / np.float32(row.size)
    total = np.float32(0)
    for i in range(row.size):
        total += (row[i] - mean) * (row[i] - mean)
    return mean, np.float32(1 / np.sqrt(total / np.float32(row.size) + np.float32(epsilon)))


@compiled()
def norm_forward(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float, y: np.ndarray) -> None:
    """y = layer norm of each row of x."""
    for m in range(x.shape[0]):
        row, out = x[m], y[m]
        mean, inverse = _statistics(row, epsilon)
        for i in range(row.size):
            out[i] = (row[i] - mean) * inverse * gamma[i] + beta[i]


@compiled()
def norm_backward(
    x: np.ndarray, gamma: np.ndarray, epsilon: float, dy: np.ndarray, dx: np.ndarray, dgamma: np.ndarray,
    dbeta: np.ndarray,
) -> None:  # fmt: skip
    """Add to dx, dgamma and dbeta."""
    for m in range(x.shape[0]):
        row, d, out = x[m], dy[m], dx[m]
        mean, inverse = _statistics(row, epsilon)
        total, total_x = np.float32(0), np.float32(0)
        for i in range(row.size):
            scaled = d[i] * gamma[i]
            total += scaled
            total_x += scaled * (row[i] - mean)
        shift = total / np.float32(row.size)
        slope = total_x * inverse * inverse / np.float32(row.size)
        for i in range(row.size):
            dgamma[i] += d[i] * (row[i] - mean) * inverse
            dbeta[i] += d[i]
        for i in range(row.size):  # a loop of its own: with more arrays in one, it becomes no vector instructions
            out[i] += inverse * (d[i] * gamma[i] - shift - (row[i] - mean) * slope)


class LayerNorm(PyLayer):
    """Layer norm of the last axis."""

    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, gamma: paddle.Tensor, beta: paddle.Tensor, epsilon: float) -> paddle.Tensor:
        y = paddle.empty(x.shape, dtype="float32")
        rows, out = _rows(x), _rows(y)
        slope, shift = kernels.array(gamma), kernels.array(beta)
        split(len(rows), lambda a, b: norm_forward(rows[a:b], slope, shift, epsilon, out[a:b]))
        ctx.save_for_backward(x, gamma)
        ctx.epsilon = epsilon
        ctx.needs_grad = [not tensor.stop_gradient for tensor in (x, gamma, beta)]
        return y

    @staticmethod
    def backward(ctx: Any, dy: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        x, gamma = ctx.saved_tensor()
        dx = paddle.zeros_like(x)
        rows, d, out = (_rows(tensor) for tensor in (x, dy, dx))
        slope = kernels.array(gamma)

        def part(a: int, b: int) -> np.ndarray:
            sums = np.zeros((2, slope.size), np.float32)
            norm_backward(rows[a:b], slope, ctx.epsilon, d[a:b], out[a:b], sums[0], sums[1])
            return sums

        dgamma, dbeta = np.add.reduce(split(len(rows), part))
        return kernels.only(ctx.needs_grad, dx, paddle.to_tensor(dgamma), paddle.to_tensor(dbeta))


def _rows(tensor: paddle.Tensor) -> np.ndarray:
    """Return the memory of [..., W] as rows [M, W]."""
    return kernels.array(tensor).reshape(-1, tensor.shape[-1])
