"""The two halves of a transformer's block as one operator each: CPU training without trips to memory.

A half adds to its input what becomes of its layer norm in two linear layers with attention or GELU between. Images do
not depend on each other, so a few of them at a time go through the whole half, forward and backward, while their tokens
are in the processor's cache. The outputs of the first linear layer and of attention are kept for the backward pass;
layer norm, GELU and the weights [T, T] of attention are computed again. A scale of the output goes into the second
layer's weights.
"""

# mypy: disable-error-code="override,no-untyped-call"
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import paddle
from paddle.autograd import PyLayer

from shitu_cli.model import kernels
from shitu_cli.model.kernels import tokens
from shitu_cli.model.kernels.products import split

ROWS = 1024  # tokens to compute together: enough for the products, and few enough for the cache


def branch(x: paddle.Tensor, part: kernels.Branch) -> paddle.Tensor:
    """Return x [N, T, W] plus the output of the branch."""
    parameters = part.parameters()
    recorded = paddle.is_grad_enabled() and not all(tensor.stop_gradient for tensor in (x, *parameters))
    between = Attention(part.heads) if part.heads else Gelu()
    return _Branch.apply(x, *parameters, between, part.norm._epsilon, recorded)


class Between(Protocol):
    """What happens between the linear layers, on a few images' tokens [G, T, H] → [G, T, A]."""

    kept: bool  # whether its output is kept for the backward pass, which otherwise computes it again

    def size(self, hidden: int) -> int:
        """Return A, the output's channels."""

    def forward(self, hidden: np.ndarray, out: np.ndarray) -> None:
        """Fill out."""

    def backward(self, hidden: np.ndarray, d: np.ndarray, d_hidden: np.ndarray, out: np.ndarray) -> None:
        """Fill d_hidden from the gradient d of the output, and `out` unless it is kept."""


class Gelu:
    """x Φ(x), with the exact distribution."""

    kept = False

    def size(self, hidden: int) -> int:
        return hidden

    def forward(self, hidden: np.ndarray, out: np.ndarray) -> None:
        tokens.gelu_forward(hidden.reshape(-1), out.reshape(-1))

    def backward(self, hidden: np.ndarray, d: np.ndarray, d_hidden: np.ndarray, out: np.ndarray) -> None:
        tokens.gelu_backward(*(array.reshape(-1) for array in (hidden, d, d_hidden, out)))


@dataclass(frozen=True)
class Attention:
    """softmax(q kᵀ / sqrt(d)) v of q, k and v side by side, for each of the heads."""

    heads: int
    kept = True

    def size(self, hidden: int) -> int:
        return hidden // 3

    def forward(self, hidden: np.ndarray, out: np.ndarray) -> None:
        weights = np.empty((hidden.shape[1], hidden.shape[1]), np.float32)
        for parts, target in zip(hidden, out, strict=True):
            for (q, k, v), y in zip(self._heads(parts), _slices(target, self.heads), strict=True):
                _attention_weights(q, k, weights)
                np.matmul(weights, v, out=y)

    def backward(self, hidden: np.ndarray, d: np.ndarray, d_hidden: np.ndarray, out: np.ndarray) -> None:
        weights, inner = (np.empty((hidden.shape[1], hidden.shape[1]), np.float32) for _ in range(2))
        for parts, own, d_parts in zip(hidden, d, d_hidden, strict=True):
            heads = zip(self._heads(parts), _slices(own, self.heads), self._heads(d_parts), strict=True)
            for (q, k, v), dy, (dq, dk, dv) in heads:
                scale = np.float32(q.shape[1] ** -0.5)
                _attention_weights(q, k, weights)
                np.matmul(weights.T, dy, out=dv)
                np.matmul(dy, v.T, out=inner)
                tokens.softmax_backward(inner, weights)
                np.matmul(inner, k * scale, out=dq)
                np.matmul(inner.T, q * scale, out=dk)

    def _heads(self, parts: np.ndarray) -> list[tuple[np.ndarray, ...]]:
        """Return views of q, k and v [T, d] of each head in [T, 3 * W]."""
        views = _slices(parts, 3 * self.heads)
        return list(zip(*(views[part * self.heads : (part + 1) * self.heads] for part in range(3)), strict=True))


def _attention_weights(q: np.ndarray, k: np.ndarray, out: np.ndarray) -> None:
    """out [T, T] = softmax(q kᵀ / sqrt(d)) of q and k [T, d]."""
    np.matmul(q * np.float32(q.shape[1] ** -0.5), k.T, out=out)
    tokens.softmax(out, out.max(axis=1))


def _slices(maps: np.ndarray, count: int) -> list[np.ndarray]:
    """Return `count` views of as many columns each."""
    size = maps.shape[1] // count
    return [maps[:, number * size : (number + 1) * size] for number in range(count)]


class _Half:
    """The arrays of a branch, and its computation on a few images."""

    def __init__(self, parameters: list[paddle.Tensor], between: Between, epsilon: float) -> None:
        arrays = [kernels.array(tensor) for tensor in parameters]
        self.gamma, self.beta, self.first, self.first_bias, self.last, self.last_bias, *scale = arrays
        self.scale = scale[0] if scale else None
        self.scaled, self.scaled_bias = (
            array if self.scale is None else array * self.scale for array in (self.last, self.last_bias)
        )
        self.between, self.epsilon = between, epsilon
        hidden = self.first.shape[1]
        self.sizes = (hidden, between.size(hidden))

    def kept(self, count: int, length: int) -> list[paddle.Tensor]:
        """Return room for what the backward pass needs of `count` images of `length` tokens."""
        sizes = self.sizes if self.between.kept else self.sizes[:1]
        return [paddle.empty([count, length, size], dtype="float32") for size in sizes]

    def _maps(self, x: np.ndarray, kept: list[np.ndarray]) -> list[np.ndarray]:
        """Return what was kept of the layers of images x [G, T, W], then room for the others."""
        return kept + [np.empty((*x.shape[:2], size), np.float32) for size in self.sizes[len(kept) :]]

    def forward(self, x: np.ndarray, y: np.ndarray, kept: list[np.ndarray]) -> None:
        """Fill y, and `kept` unless it is empty, from images x [G, T, W]."""
        rows = _rows(x)
        normed = np.empty_like(rows)
        tokens.norm_forward(rows, self.gamma, self.beta, self.epsilon, normed)
        hidden, out = self._maps(x, kept)
        np.matmul(normed, self.first, out=_rows(hidden))
        np.add(hidden, self.first_bias, out=hidden)
        self.between.forward(hidden, out)
        np.matmul(_rows(out), self.scaled, out=_rows(y))
        tokens.add_rows(_rows(y), rows, self.scaled_bias)

    def backward(
        self, x: np.ndarray, kept: list[np.ndarray], dy: np.ndarray, dx: np.ndarray, totals: list[np.ndarray]
    ) -> None:
        """Fill dx, and add to the gradients `totals` of gamma, beta, first, its bias, scaled and its bias."""
        gamma, beta, first, first_bias, scaled, scaled_bias = totals
        rows, d = _rows(x), _rows(dy)
        hidden, out = self._maps(x, kept)
        d_hidden, d_out = np.empty_like(hidden), np.empty_like(out)
        np.matmul(d, self.scaled.T, out=_rows(d_out))
        self.between.backward(hidden, d_out, d_hidden, out)
        scaled += _rows(out).T @ d
        scaled_bias += d.sum(axis=0)
        normed = np.empty_like(rows)
        tokens.norm_forward(rows, self.gamma, self.beta, self.epsilon, normed)
        first += normed.T @ _rows(d_hidden)
        first_bias += _rows(d_hidden).sum(axis=0)
        np.matmul(_rows(d_hidden), self.first.T, out=normed)  # from here on the gradient of the norm's output
        np.copyto(dx, dy)
        tokens.norm_backward(rows, self.gamma, self.epsilon, normed, _rows(dx), gamma, beta)

    def no_gradients(self) -> list[np.ndarray]:
        arrays = (self.gamma, self.beta, self.first, self.first_bias, self.last, self.last_bias)
        return [np.zeros_like(array) for array in arrays]

    def parameter_gradients(self, totals: list[np.ndarray]) -> list[np.ndarray]:
        """Return the gradients of the parameters from those that `backward` adds to."""
        if self.scale is None:
            return totals
        *others, last, bias = totals
        scale = (last * self.last).sum(axis=0, dtype=np.float64) + bias * self.last_bias
        return [*others, last * self.scale, bias * self.scale, scale.astype(np.float32)]


class _Branch(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, *arguments: Any) -> paddle.Tensor:
        *parameters, between, epsilon, recorded = arguments
        half = _Half(parameters, between, epsilon)
        y = paddle.empty(x.shape, dtype="float32")
        kept = half.kept(*x.shape[:2]) if recorded else []
        images, out, *maps = (kernels.array(tensor) for tensor in (x, y, *kept))

        def part(start: int, stop: int) -> None:
            for few in _groups(start, stop, images.shape[1]):
                half.forward(images[few], out[few], [array[few] for array in maps])

        split(len(images), part)
        if recorded:
            ctx.save_for_backward(x, *kept)
        ctx.half, ctx.needs_grad = half, [not tensor.stop_gradient for tensor in (x, *parameters)]
        return y

    @staticmethod
    def backward(ctx: Any, dy: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        saved, half = ctx.saved_tensor(), ctx.half
        dx = paddle.empty_like(saved[0])
        d, of_x, images, *maps = (kernels.array(tensor) for tensor in (dy, dx, *saved))

        def part(start: int, stop: int) -> list[np.ndarray]:
            totals = half.no_gradients()
            for few in _groups(start, stop, images.shape[1]):
                half.backward(images[few], [array[few] for array in maps], d[few], of_x[few], totals)
            return totals

        first, *others = split(len(images), part)
        for other in others:
            for total, more in zip(first, other, strict=True):
                np.add(total, more, out=total)
        gradients = half.parameter_gradients(first)
        return kernels.only(ctx.needs_grad, dx, *(paddle.to_tensor(gradient) for gradient in gradients))


def _groups(start: int, stop: int, length: int) -> Iterator[slice]:
    """Yield the images start … stop of `length` tokens a few at a time."""
    size = max(1, round(ROWS / length))
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))


def _rows(maps: np.ndarray) -> np.ndarray:
    """Return [G, T, C] as rows [G * T, C]."""
    return maps.reshape(-1, maps.shape[2])
