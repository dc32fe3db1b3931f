"""The compiled kernels as operators of Paddle, with their gradients."""

# mypy: disable-error-code="override"
from __future__ import annotations

from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.autograd import PyLayer

from shitu_cli.model.kernels import array, loops, only, products, small_maps


class DepthwiseConv(PyLayer):
    @staticmethod
    def forward(
        ctx: Any, x: paddle.Tensor, weight: paddle.Tensor, stride: int, first: tuple[int, int]
    ) -> paddle.Tensor:
        y = _outputs(x, x.shape[1], stride, first)
        small = small_maps.worthwhile(x.shape[2], x.shape[3], weight.shape[2])
        run = small_maps.forward if small else loops.depthwise_forward
        run(array(x), array(weight), stride, array(y), *first)
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.first = stride, first
        ctx.needs_grad = [not t.stop_gradient for t in (x, weight)]
        return y

    @staticmethod
    def backward(ctx: Any, dy: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        x, weight = ctx.saved_tensor()
        dx, dw = paddle.empty_like(x), paddle.empty_like(weight)
        if small_maps.worthwhile(x.shape[2], x.shape[3], weight.shape[2]):
            run = small_maps.backward
        else:
            run = loops.depthwise_backward
        run(array(x), array(weight), ctx.stride, array(dy), array(dx), array(dw), *ctx.first)
        return only(ctx.needs_grad, dx, dw)


class Conv(PyLayer):
    @staticmethod
    def forward(
        ctx: Any, x: paddle.Tensor, weight: paddle.Tensor, stride: int, first: tuple[int, int]
    ) -> paddle.Tensor:
        y = _outputs(x, weight.shape[0], stride, first)
        pad = weight.shape[2] // 2
        ctx.pads = (pad - first[0], pad - first[1])
        if pad == 0 and stride == 1:
            products.pointwise_forward(array(x), array(weight), array(y))
        else:
            products.dense_forward(array(x), array(weight), stride, ctx.pads, array(y))
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        ctx.needs_grad = [not t.stop_gradient for t in (x, weight)]
        return y

    @staticmethod
    def backward(ctx: Any, dy: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        x, weight = ctx.saved_tensor()
        gradients = only(ctx.needs_grad, paddle.empty_like(x), paddle.empty_like(weight))
        dx, dw = (None if gradient is None else array(gradient) for gradient in gradients)
        if weight.shape[2] == 1 and ctx.stride == 1:
            products.pointwise_backward(array(x), array(weight), array(dy), dx, dw)
        else:
            products.dense_backward(array(x), array(weight), ctx.stride, ctx.pads, array(dy), dx, dw)
        return gradients


class Linear(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, weight: paddle.Tensor, *bias: paddle.Tensor) -> paddle.Tensor:
        y = paddle.empty([x.shape[0], weight.shape[1]], dtype="float32")
        products.linear_forward(array(x), array(weight), array(bias[0]) if bias else None, array(y))
        ctx.save_for_backward(x, weight)
        ctx.needs_grad = [not t.stop_gradient for t in (x, weight, *bias)]
        return y

    @staticmethod
    def backward(ctx: Any, dy: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        x, weight = ctx.saved_tensor()
        gradients = [paddle.empty_like(x), paddle.empty_like(weight)]
        if ctx.needs_grad[0]:
            products.product(array(dy), array(weight).T, array(gradients[0]))
        if ctx.needs_grad[1]:
            products.product(array(x).T, array(dy), array(gradients[1]))
        if len(ctx.needs_grad) == 3:
            gradients.append(paddle.to_tensor(products.column_sums(array(dy))))
        return only(ctx.needs_grad, *gradients)


class BatchNormAct(PyLayer):
    @staticmethod
    def forward(
        ctx: Any, x: paddle.Tensor, gamma: paddle.Tensor, beta: paddle.Tensor, bn: nn.BatchNorm2D, act: int
    ) -> paddle.Tensor:
        y = paddle.empty(x.shape, dtype="float32")
        shape, channels = (x.shape[0], x.shape[1], -1), x.shape[1]
        mean, inverse, variance = (np.empty(channels, np.float32) for _ in range(3))
        loops.norm_act_forward(
            array(x).reshape(shape), array(gamma), array(beta), bn._epsilon, act, array(y).reshape(shape), mean,
            inverse, variance,
        )  # fmt: skip
        for running, batch in ((array(bn._mean), mean), (array(bn._variance), variance)):
            running *= np.float32(bn._momentum)
            running += batch * np.float32(1 - bn._momentum)
        ctx.save_for_backward(x, gamma, beta)
        ctx.statistics, ctx.act = (mean, inverse), act
        ctx.needs_grad = [not t.stop_gradient for t in (x, gamma, beta)]
        return y

    @staticmethod
    def backward(ctx: Any, dy: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        x, gamma, beta = ctx.saved_tensor()
        mean, inverse = ctx.statistics
        dx, dgamma, dbeta = paddle.empty_like(x), paddle.empty_like(gamma), paddle.empty_like(beta)
        shape = (x.shape[0], x.shape[1], -1)
        loops.norm_act_backward(
            array(x).reshape(shape), array(gamma), array(beta), ctx.act, mean, inverse, array(dy).reshape(shape),
            array(dx).reshape(shape), array(dgamma), array(dbeta),
        )  # fmt: skip
        return only(ctx.needs_grad, dx, dgamma, dbeta)


class FixedNormAct(PyLayer):
    """Batch norm by its running statistics, which stay as they are."""

    @staticmethod
    def forward(
        ctx: Any, x: paddle.Tensor, gamma: paddle.Tensor, beta: paddle.Tensor, bn: nn.BatchNorm2D, act: int
    ) -> paddle.Tensor:
        y, shape = paddle.empty(x.shape, dtype="float32"), (x.shape[0], x.shape[1], -1)
        mean = np.array(array(bn._mean))
        inverse = 1 / np.sqrt(array(bn._variance) + np.float32(bn._epsilon))
        slope = array(gamma) * inverse
        shift = array(beta) - slope * mean
        loops.fixed_norm_act_forward(array(x).reshape(shape), slope, shift, act, array(y).reshape(shape))
        ctx.save_for_backward(x, gamma, beta)
        ctx.constants, ctx.act = (slope, shift, mean, inverse), act
        ctx.needs_grad = [not t.stop_gradient for t in (x, gamma, beta)]
        return y

    @staticmethod
    def backward(ctx: Any, dy: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        x, gamma, beta = ctx.saved_tensor()
        slope, shift, mean, inverse = ctx.constants
        dx, dgamma, dbeta = paddle.empty_like(x), paddle.empty_like(gamma), paddle.empty_like(beta)
        shape = (x.shape[0], x.shape[1], -1)
        loops.fixed_norm_act_backward(
            array(x).reshape(shape), slope, shift, ctx.act, array(dy).reshape(shape), array(dx).reshape(shape), mean,
            array(dbeta), array(dgamma),
        )  # fmt: skip
        scaled = array(dgamma)
        scaled *= inverse
        return only(ctx.needs_grad, dx, dgamma, dbeta)


def _outputs(x: paddle.Tensor, channels: int, stride: int, first: tuple[int, int]) -> paddle.Tensor:
    """Return room for the outputs of a convolution of x whose first window is centred on the pixel `first`."""
    sides = [(side - 1 - start) // stride + 1 for side, start in zip(x.shape[2:], first, strict=True)]
    return paddle.empty([x.shape[0], channels, *sides], dtype="float32")
