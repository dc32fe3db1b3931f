"""Batch norm over the batches of all processes (`Arch.use_sync_bn`)."""

from __future__ import annotations

from typing import Any

import paddle
from paddle import nn
from paddle.autograd import PyLayer

from shitu_cli.processes.collectives import Ranks


def synchronize_norms(model: nn.Layer, ranks: Ranks, device: str) -> nn.Layer:
    """Return the model with training statistics over all processes; parameter names do not change.

    GPUs use Paddle's own layer; on CPUs, for which Paddle has none, the forward pass of each norm is replaced.
    """
    if ranks.world == 1:
        return model
    if device != "cpu":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for layer in model.sublayers():
        if isinstance(layer, (nn.BatchNorm1D, nn.BatchNorm2D)):
            layer.synced = True  # excludes it from the compiled kernels
            layer.forward = _forward(layer, ranks)  # type: ignore[method-assign]
    return model


def _forward(norm: Any, ranks: Ranks) -> Any:
    original = norm.forward

    def forward(x: paddle.Tensor) -> paddle.Tensor:
        if not norm.training or norm._use_global_stats:  # whose statistics stay as they are
            return original(x)
        gamma = paddle.ones_like(norm._mean) if norm.weight is None else norm.weight
        beta = paddle.zeros_like(norm._mean) if norm.bias is None else norm.bias
        return _SyncedNorm.apply(x, gamma, beta, norm, ranks)

    return forward


class _SyncedNorm(PyLayer):
    """x [N, C, ...] normalised over all processes' N and all positions (Ioffe and Szegedy 2015)."""

    @staticmethod
    def forward(
        ctx: Any, x: paddle.Tensor, gamma: paddle.Tensor, beta: paddle.Tensor, norm: Any, ranks: Ranks
    ) -> paddle.Tensor:
        axes = [axis for axis in range(len(x.shape)) if axis != 1]
        shape = [1, -1, *([1] * (len(x.shape) - 2))]
        own = x.size // x.shape[1]
        sums = ranks.sum_tensor(paddle.concat([x.sum(axes), paddle.to_tensor([float(own)], dtype=x.dtype)]))
        count = sums[-1]
        mean = sums[:-1] / count
        centred = x - mean.reshape(shape)
        # Second pass over the centred values: the difference of large squares would lose the variance.
        variance = ranks.sum_tensor((centred * centred).sum(axes)) / count
        inverse = 1 / paddle.sqrt(variance + norm._epsilon)
        normal = centred * inverse.reshape(shape)
        keep = norm._momentum
        norm._mean.set_value(norm._mean * keep + mean * (1 - keep))
        norm._variance.set_value(norm._variance * keep + variance * (1 - keep))
        ctx.saved = (normal, inverse, gamma, count, axes, shape, ranks)
        ctx.is_wanted = [not tensor.stop_gradient for tensor in (x, gamma, beta)]
        return normal * gamma.reshape(shape) + beta.reshape(shape)

    @staticmethod
    def backward(ctx: Any, grad: paddle.Tensor) -> tuple[Any, ...]:
        normal, inverse, gamma, count, axes, shape, ranks = ctx.saved
        d_beta = grad.sum(axes)
        d_gamma = (grad * normal).sum(axes)
        channels = d_beta.shape[0]
        sums = ranks.sum_tensor(paddle.concat([d_beta, d_gamma])) / count
        along = grad - sums[:channels].reshape(shape) - normal * sums[channels:].reshape(shape)
        # Gradients of gamma and beta stay local: those of all parameters are summed over the processes later.
        gradients = (along * (gamma * inverse).reshape(shape), d_gamma, d_beta)
        # Paddle refuses a gradient of what is not trained: a norm without weights, a frozen one, the images themselves.
        return tuple(one if wanted else None for one, wanted in zip(gradients, ctx.is_wanted, strict=True))
