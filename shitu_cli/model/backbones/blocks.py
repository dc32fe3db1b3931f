"""Building blocks of the networks whose weights PyTorch users publish: parameter names follow timm."""

from __future__ import annotations

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import nn

from shitu_cli.model import kernels
from shitu_cli.model.layers import Conv2D, Linear


class BatchNormAct(nn.BatchNorm2D):
    """Batch norm followed by an activation: `None`, "relu" or "relu6"; in CPU training one compiled kernel."""

    def __init__(self, channels: int, act: str | None = "relu", epsilon: float = 1e-5) -> None:
        super().__init__(channels, epsilon=epsilon)
        self.act = act

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if kernels.usable(self, x):
            return kernels.batch_norm_act(x, self, self.act)
        y = super().forward(x)
        return y if self.act is None else getattr(F, self.act)(y)


class SameConv2D(Conv2D):
    """Convolution without bias that pads as TensorFlow's "SAME": at even sizes, one pixel less before than after.

    Only strides of 2 at even sizes differ from padding both sides alike.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, groups, bias_attr=False)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.stride == 1:
            return Conv2D.forward(self, x)  # by name: see Conv2D
        if self.kernel is None or not kernels.usable(self, x):
            return F.conv2d(x, self.weight, None, self.stride, "SAME", groups=self._groups)
        return self.kernel(x, self.weight, self.stride, self.first_window(*x.shape[2:]))

    def first_window(self, height: int, width: int) -> tuple[int, int]:
        return (0, 0) if 1 in (self.stride, self.weight.shape[2]) else (1 - height % 2, 1 - width % 2)


class LayerNorm(nn.LayerNorm):
    """Paddle's layer norm of the last axis; in CPU training a compiled kernel."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return kernels.layer_norm(x, self) if kernels.usable(self, x) else nn.LayerNorm.forward(self, x)


class TokenLinear(Linear):
    """Linear layer over the last axis of [N, T, C]; in CPU training on the products of the other layers."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if not kernels.usable(self, x):
            return Linear.forward(self, x)
        y = Linear.forward(self, x.reshape([-1, x.shape[-1]]))
        return y.reshape([*x.shape[:-1], y.shape[-1]])


def chain(x: paddle.Tensor, links: Sequence[tuple[Conv2D, BatchNormAct]], shortcut: bool = False) -> paddle.Tensor:
    """Return the output of convolutions with their norms, one after the other; with a `shortcut`, x is added to it.

    In CPU training with fixed norms, all of it is one compiled operator.
    """
    fused = [kernels.Link(conv, norm, norm.act) for conv, norm in links]
    if kernels.chainable(fused, x):
        return kernels.fixed_chain(x, fused, shortcut)
    y = x
    for conv, norm in links:
        y = norm(conv(y))
    return x + y if shortcut else y
