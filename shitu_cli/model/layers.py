"""Building blocks that the backbones share. Parameter names follow the published weights (conv, bn, conv1, ...)."""

from __future__ import annotations

from collections.abc import Callable

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, nn
from paddle.regularizer import L1Decay, L2Decay

from shitu_cli.config.parts.initializers import Attribute, Initializer, ParameterAttribute
from shitu_cli.model import kernels

PaddleAttr = ParamAttr | bool | None

ACTIVATIONS: dict[str | None, Callable[[paddle.Tensor], paddle.Tensor]] = {
    None: lambda x: x,
    "hardswish": F.hardswish,
    "relu": F.relu,
}


def make_divisible(value: float) -> int:
    """Return the multiple of 8 nearest to `value`, but at least 90 % of it."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


class Conv2D(nn.Conv2D):
    """Paddle's convolution with 'same' padding; in CPU training a compiled kernel of the same values (`kernels`).

    The class keeps Paddle's name, which the names of parameters are made from.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        weight_attr: PaddleAttr = None,
        bias_attr: PaddleAttr = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel,
            stride,
            padding=(kernel - 1) // 2,
            groups=groups,
            weight_attr=weight_attr,
            bias_attr=bias_attr,
        )
        self.stride = stride
        depthwise = groups == in_channels == out_channels
        self.kernel = kernels.conv if groups == 1 else kernels.depthwise_conv if depthwise else None

    def first_window(self, height: int, width: int) -> tuple[int, int]:
        """Return the row and the column that the first window is centred on."""
        return 0, 0

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.kernel is None or not kernels.usable(self, x):
            return nn.Conv2D.forward(self, x)  # tracing takes super() for the parent of the object's own class
        y = self.kernel(x, self.weight, self.stride)
        return y if self.bias is None else y + self.bias.reshape([1, -1, 1, 1])


class Linear(nn.Linear):
    """Paddle's linear layer; in CPU training on the same library as the convolutions."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if not kernels.usable(self, x):
            return nn.Linear.forward(self, x)
        return kernels.linear(x, self.weight, self.bias)


class ConvBNAct(nn.Layer):
    """Convolution without bias, batch norm (without weight decay unless `norm_decay`), activation; 'same' padding.

    In CPU training, norm and activation run as one compiled kernel; with a norm whose statistics are fixed, the
    convolution is part of that kernel too.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        act: str | None = "hardswish",
        lr_mult: float = 1.0,
        init: nn.initializer.Initializer | None = None,
        norm_decay: bool = False,
    ) -> None:
        super().__init__()
        self.act = act
        weight_attr = ParamAttr(initializer=init, learning_rate=lr_mult)
        self.conv = Conv2D(in_channels, out_channels, kernel, stride, groups, weight_attr, bias_attr=False)
        scale, shift = (_norm_attr(lr_mult, norm_decay) for _ in range(2))
        self.bn = nn.BatchNorm2D(out_channels, weight_attr=scale, bias_attr=shift)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        link = kernels.Link(self.conv, self.bn, self.act)
        if kernels.chainable([link], x):
            return kernels.fixed_chain(x, [link])
        y = self.conv(x)
        if kernels.usable(self, y):
            return kernels.batch_norm_act(y, self.bn, self.act)
        return ACTIVATIONS[self.act](self.bn(y))


class SqueezeExcite(nn.Layer):
    """Channel weights from the pooled map, `x * hardsigmoid(conv2(relu(conv1(mean(x)))))`."""

    def __init__(
        self, channels: int, reduction: int = 4, lr_mult: float = 1.0, slope: float = 1 / 6, offset: float = 0.5
    ) -> None:
        super().__init__()
        attr = ParamAttr(learning_rate=lr_mult)
        self.slope, self.offset = slope, offset
        self.conv1 = Conv2D(channels, channels // reduction, 1, weight_attr=attr, bias_attr=attr)
        self.conv2 = Conv2D(channels // reduction, channels, 1, weight_attr=attr, bias_attr=attr)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        s = F.relu(self.conv1(F.adaptive_avg_pool2d(x, 1)))
        s = F.hardsigmoid(self.conv2(s), slope=self.slope, offset=self.offset)
        return x * s  # not paddle.multiply: that cannot be traced into a .pdmodel


class SigmoidExcite(SqueezeExcite):
    """Squeeze-excite with a true sigmoid."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x * sigmoid(self.conv2(F.relu(self.conv1(F.adaptive_avg_pool2d(x, 1)))))


def sigmoid(x: paddle.Tensor) -> paddle.Tensor:
    """Return the sigmoid of x; unlike F.sigmoid, it can be traced into the older format (.pdmodel)."""
    return F.sigmoid(x) if _traces_newer_or_none() else _older_operator("sigmoid", x)


def gelu(x: paddle.Tensor) -> paddle.Tensor:
    """Return the exact GELU of x; unlike F.gelu, it can be traced into the older format (.pdmodel)."""
    return F.gelu(x) if _traces_newer_or_none() else _older_operator("gelu", x)


def sqrt(x: paddle.Tensor) -> paddle.Tensor:
    """Return the root of x; unlike paddle.sqrt, it can be traced into the older format (.pdmodel)."""
    return paddle.sqrt(x) if _traces_newer_or_none() else _older_operator("sqrt", x)


def tanh(x: paddle.Tensor) -> paddle.Tensor:
    """Return the hyperbolic tangent of x; unlike paddle.tanh, it can be traced into the older format (.pdmodel)."""
    return paddle.tanh(x) if _traces_newer_or_none() else _older_operator("tanh", x)


def _traces_newer_or_none() -> bool:
    return bool(paddle.in_dynamic_mode() or paddle.framework.use_pir_api())


def _older_operator(kind: str, x: paddle.Tensor) -> paddle.Tensor:
    from paddle.base.layer_helper import LayerHelper

    helper = LayerHelper(kind)
    out = helper.create_variable_for_type_inference(x.dtype)
    helper.append_op(type=kind, inputs={"X": x}, outputs={"Out": out})
    return out


class DownscaleDropout(nn.Layer):
    """Dropout that scales by 1 - p at inference instead of by 1 / (1 - p) in training.

    Written as a product there, because the bf16 pass of the inference engine loses the scale of the operator.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.training:
            return F.dropout(x, self.p, training=True, mode="downscale_in_infer")
        return x * (1.0 - self.p)


def make_initializer(part: Initializer) -> nn.initializer.Initializer:
    """Return Paddle's initializer with the part's name and arguments."""
    return getattr(nn.initializer, part.name)(**part.args)


def parameter_attr(value: Attribute, default: nn.initializer.Initializer | None = None) -> ParamAttr | bool:
    """Return Paddle's attribute of a parameter: the default for None and true, false for no such parameter."""
    if value is False:
        return False
    if not isinstance(value, ParameterAttribute):
        return ParamAttr(initializer=default)
    initializer = default if value.initializer is None else value.initializer.build()
    decay = value.regularizer
    regularizer = None if decay is None else (L1Decay if decay.name == "L1Decay" else L2Decay)(decay.coeff)
    return ParamAttr(initializer=initializer, learning_rate=value.learning_rate, regularizer=regularizer)


def _norm_attr(lr_mult: float, decay: bool) -> ParamAttr:
    return ParamAttr(regularizer=None if decay else L2Decay(0.0), learning_rate=lr_mult)
