"""Training kernels for the CPU: same values as Paddle's operators, several times as fast.

On CPUs, Paddle's own depthwise convolution and batch norm run naive loops on one thread. These read and write
Paddle's memory directly (DLPack, no copies) with loops compiled by numba. `usable` decides per call: CPU,
training, eager mode, float32, numba present; everywhere else Paddle's operators run.
`SHITU_KERNELS=off` in the environment turns them off, for comparison.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import paddle
from paddle import nn

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
    from shitu_cli.model.kernels.operators import DepthwiseConv

    return DepthwiseConv.apply(x, weight, stride, first)


def conv(x: paddle.Tensor, weight: paddle.Tensor, stride: int, first: tuple[int, int] = (0, 0)) -> paddle.Tensor:
    """Return conv2d(x [N, C, H, W], weight [A, C, k, k]) with padding k // 2; `first` as in depthwise_conv."""
    from shitu_cli.model.kernels.operators import Conv

    return Conv.apply(x, weight, stride, first)


def linear(x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor | None = None) -> paddle.Tensor:
    """Return x [N, A] @ weight [A, B] + bias [B]."""
    from shitu_cli.model.kernels.operators import Linear

    return Linear.apply(x, weight, *(() if bias is None else (bias,)))


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
    from shitu_cli.model.kernels.operators import BatchNormAct, FixedNormAct

    apply = FixedNormAct.apply if bn._use_global_stats else BatchNormAct.apply
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


def only(needed: list[bool], *gradients: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
    """Return the gradients, None for those that are not needed, as Paddle requires."""
    return tuple(g if want else None for g, want in zip(gradients, needed, strict=True))
