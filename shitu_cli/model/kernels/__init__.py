"""Training kernels for the CPU: same values as Paddle's operators, several times as fast.

On CPUs, Paddle's own depthwise convolution and batch norm run naive loops on one thread. These read and write
Paddle's memory directly (DLPack, no copies) with loops compiled by numba. `usable` decides per call: CPU,
training, eager mode, float32, numba present; everywhere else Paddle's operators run.
`SHITU_KERNELS=off` in the environment turns them off, for comparison.
"""

# mypy: disable-error-code="override"
from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import paddle
from paddle import nn
from paddle.autograd import PyLayer

ACT_NONE, ACT_RELU, ACT_HARDSWISH, ACT_RELU6 = range(4)  # as the compiled loops take them
ACTIVATIONS = {None: ACT_NONE, "relu": ACT_RELU, "hardswish": ACT_HARDSWISH, "relu6": ACT_RELU6}


@lru_cache(maxsize=1)
def available() -> bool:
    """Return whether numba is installed and Paddle's memory can be shared with numpy for writing."""
    if os.environ.get("SHITU_KERNELS", "").lower() in ("off", "0"):
        return False
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    probe = paddle.zeros([2], dtype="float32").cpu()
    try:
        view = np.from_dlpack(probe.detach())
    except (TypeError, RuntimeError, BufferError):
        return False
    if not view.flags.writeable:
        return False
    view[0] = 1.0
    return bool(probe[0].item() == 1.0)


def usable(layer: nn.Layer, x: paddle.Tensor) -> bool:
    """Return whether `layer` may run its compiled form on `x` now."""
    return (
        layer.training
        and paddle.in_dynamic_mode()
        and x.place.is_cpu_place()
        and x.dtype == paddle.float32
        and available()
    )


def depthwise_conv(
    x: paddle.Tensor, weight: paddle.Tensor, stride: int, first: tuple[int, int] = (0, 0)
) -> paddle.Tensor:
    """Return conv2d(x [N, C, H, W], weight [C, 1, k, k], groups=C) with padding k // 2.

    The first window is centred on the row and the column `first`, 0 or 1: at a stride of 2, ones at an even side are
    TensorFlow's padding "SAME".
    """
    kernel, side = weight.shape[2], min(x.shape[2], x.shape[3])
    if kernel == 1 and stride == 1:
        return x * weight.reshape([1, -1, 1, 1])
    if kernel not in (3, 5) or stride not in (1, 2) or side < 2:
        pad = kernel // 2
        pads = [pad - first[0], pad, pad - first[1], pad]
        return paddle.nn.functional.conv2d(x, weight, stride=stride, padding=pads, groups=weight.shape[0])
    return _DepthwiseConv.apply(x, weight, stride, first)


def conv(x: paddle.Tensor, weight: paddle.Tensor, stride: int, first: tuple[int, int] = (0, 0)) -> paddle.Tensor:
    """Return conv2d(x [N, C, H, W], weight [A, C, k, k]) with padding k // 2; `first` as in depthwise_conv."""
    return _Conv.apply(x, weight, stride, first)


def linear(x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor | None = None) -> paddle.Tensor:
    """Return x [N, A] @ weight [A, B] + bias [B]."""
    return _Linear.apply(x, weight, *(() if bias is None else (bias,)))


def layer_norm(x: paddle.Tensor, norm: nn.LayerNorm) -> paddle.Tensor:
    """Return the layer norm of the last axis of x; its weight and bias may not be missing."""
    from shitu_cli.model.kernels import tokens

    return tokens.LayerNorm.apply(x, norm.weight, norm.bias, norm._epsilon)


class Branch(NamedTuple):
    """A half of a transformer's block: layer norm, a linear layer, attention or GELU, a linear layer, a scale."""

    norm: Any  # blocks.LayerNorm
    first: Any  # blocks.TokenLinear
    last: Any
    scale: paddle.Tensor | None
    heads: int = 0  # of the attention; without it, GELU

    def parameters(self) -> list[paddle.Tensor]:
        """Return weight and bias of each layer, then the scale if there is one."""
        pairs = [(layer.weight, layer.bias) for layer in (self.norm, self.first, self.last)]
        return [tensor for pair in pairs for tensor in pair] + ([] if self.scale is None else [self.scale])


def branch(x: paddle.Tensor, part: Branch) -> paddle.Tensor:
    """Return x [N, T, W] plus the branch of x, as one operator."""
    from shitu_cli.model.kernels import branches

    return branches.branch(x, part)


def batch_norm_act(x: paddle.Tensor, bn: nn.BatchNorm2D, act: str | None) -> paddle.Tensor:
    """Return act(bn(x)) in training mode; updates the running statistics of `bn` like Paddle, unless it uses them."""
    if act not in ACTIVATIONS or bn.weight is None or bn.bias is None:
        raise ValueError(f"no compiled batch norm with activation {act}")
    if getattr(bn, "synced", False):  # its statistics go over several processes (training/sync_norm.py)
        normal = bn(x)
        return normal if act is None else getattr(paddle.nn.functional, act)(normal)
    apply = _FixedNormAct.apply if bn._use_global_stats else _BatchNormAct.apply
    return apply(x, bn.weight, bn.bias, bn, ACTIVATIONS[act])


class Link(NamedTuple):
    """A convolution, the norm after it, and the activation that follows."""

    conv: Any  # layers.Conv2D
    norm: nn.BatchNorm2D
    act: str | None

    def parameters(self) -> list[paddle.Tensor]:
        """Return the weights, the norm's slopes and its shifts, where none of them is missing."""
        tensors = (self.conv.weight, self.norm.weight, self.norm.bias)
        return [tensor for tensor in tensors if tensor is not None]


def chainable(links: Sequence[Link], x: paddle.Tensor) -> bool:
    """Return whether `fixed_chain` can compute the links of x now: all norms keep their statistics."""
    return all(
        link.norm._use_global_stats
        and len(link.parameters()) == 3
        and not getattr(link.norm, "synced", False)
        and link.act in (None, "relu", "relu6")
        and link.conv.kernel is not None
        and link.conv.bias is None
        and link.conv.weight.shape[2] % 2 == 1
        and link.conv.stride <= 2  # where a wider stride begins, and ends, differs by the kind of padding
        and usable(link.norm, x)
        for link in links
    )


def fixed_chain(x: paddle.Tensor, links: Sequence[Link], shortcut: bool = False) -> paddle.Tensor:
    """Return the output of the links, one after the other, as one operator; with a `shortcut`, x is added to it."""
    from shitu_cli.model.kernels.fixed import chain

    return chain(x, links, shortcut)


def array(tensor: paddle.Tensor) -> np.ndarray:
    """Return the memory of the tensor as a C-contiguous array, without a copy."""
    tensor = tensor.detach()
    return np.from_dlpack(tensor if tensor.is_contiguous() else tensor.contiguous())


def _outputs(x: paddle.Tensor, channels: int, stride: int, first: tuple[int, int]) -> paddle.Tensor:
    """Return room for the outputs of a convolution of x whose first window is centred on the pixel `first`."""
    sides = [(side - 1 - start) // stride + 1 for side, start in zip(x.shape[2:], first, strict=True)]
    return paddle.empty([x.shape[0], channels, *sides], dtype="float32")


def only(needed: list[bool], *gradients: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
    """Return the gradients, None for those that are not needed, as Paddle requires."""
    return tuple(g if want else None for g, want in zip(gradients, needed, strict=True))


class _DepthwiseConv(PyLayer):
    @staticmethod
    def forward(
        ctx: Any, x: paddle.Tensor, weight: paddle.Tensor, stride: int, first: tuple[int, int]
    ) -> paddle.Tensor:
        from shitu_cli.model.kernels import loops, small_maps

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
        from shitu_cli.model.kernels import loops, small_maps

        x, weight = ctx.saved_tensor()
        dx, dw = paddle.empty_like(x), paddle.empty_like(weight)
        if small_maps.worthwhile(x.shape[2], x.shape[3], weight.shape[2]):
            run = small_maps.backward
        else:
            run = loops.depthwise_backward
        run(array(x), array(weight), ctx.stride, array(dy), array(dx), array(dw), *ctx.first)
        return only(ctx.needs_grad, dx, dw)


class _Conv(PyLayer):
    @staticmethod
    def forward(
        ctx: Any, x: paddle.Tensor, weight: paddle.Tensor, stride: int, first: tuple[int, int]
    ) -> paddle.Tensor:
        from shitu_cli.model.kernels import products

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
        from shitu_cli.model.kernels import products

        x, weight = ctx.saved_tensor()
        gradients = only(ctx.needs_grad, paddle.empty_like(x), paddle.empty_like(weight))
        dx, dw = (None if gradient is None else array(gradient) for gradient in gradients)
        if weight.shape[2] == 1 and ctx.stride == 1:
            products.pointwise_backward(array(x), array(weight), array(dy), dx, dw)
        else:
            products.dense_backward(array(x), array(weight), ctx.stride, ctx.pads, array(dy), dx, dw)
        return gradients


class _Linear(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, weight: paddle.Tensor, *bias: paddle.Tensor) -> paddle.Tensor:
        from shitu_cli.model.kernels import products

        y = paddle.empty([x.shape[0], weight.shape[1]], dtype="float32")
        products.linear_forward(array(x), array(weight), array(bias[0]) if bias else None, array(y))
        ctx.save_for_backward(x, weight)
        ctx.needs_grad = [not t.stop_gradient for t in (x, weight, *bias)]
        return y

    @staticmethod
    def backward(ctx: Any, dy: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        from shitu_cli.model.kernels import products

        x, weight = ctx.saved_tensor()
        gradients = [paddle.empty_like(x), paddle.empty_like(weight)]
        if ctx.needs_grad[0]:
            products.product(array(dy), array(weight).T, array(gradients[0]))
        if ctx.needs_grad[1]:
            products.product(array(x).T, array(dy), array(gradients[1]))
        if len(ctx.needs_grad) == 3:
            gradients.append(paddle.to_tensor(products.column_sums(array(dy))))
        return only(ctx.needs_grad, *gradients)


class _BatchNormAct(PyLayer):
    @staticmethod
    def forward(
        ctx: Any, x: paddle.Tensor, gamma: paddle.Tensor, beta: paddle.Tensor, bn: nn.BatchNorm2D, act: int
    ) -> paddle.Tensor:
        from shitu_cli.model.kernels import loops

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
        from shitu_cli.model.kernels import loops

        x, gamma, beta = ctx.saved_tensor()
        mean, inverse = ctx.statistics
        dx, dgamma, dbeta = paddle.empty_like(x), paddle.empty_like(gamma), paddle.empty_like(beta)
        shape = (x.shape[0], x.shape[1], -1)
        loops.norm_act_backward(
            array(x).reshape(shape), array(gamma), array(beta), ctx.act, mean, inverse, array(dy).reshape(shape),
            array(dx).reshape(shape), array(dgamma), array(dbeta),
        )  # fmt: skip
        return only(ctx.needs_grad, dx, dgamma, dbeta)


class _FixedNormAct(PyLayer):
    """Batch norm by its running statistics, which stay as they are."""

    @staticmethod
    def forward(
        ctx: Any, x: paddle.Tensor, gamma: paddle.Tensor, beta: paddle.Tensor, bn: nn.BatchNorm2D, act: int
    ) -> paddle.Tensor:
        from shitu_cli.model.kernels import loops

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
        from shitu_cli.model.kernels import loops

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
