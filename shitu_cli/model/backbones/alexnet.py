"""AlexNet on one device (Krizhevsky, Sutskever and Hinton 2012; arXiv:1404.5997), as deep hashing uses it."""

from __future__ import annotations

import math

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, nn

from shitu_cli.config.parts import backbones as parts
from shitu_cli.model.backbones.base import Backbone, Level, Step
from shitu_cli.model.layers import DownscaleDropout, Linear

SIDE = 224  # of the images
PLACES = 6  # side of the maps that the first linear layer takes
HIDDEN = 4096


def _spread(inputs: int) -> ParamAttr:
    """Return first values between -1/sqrt(inputs) and 1/sqrt(inputs)."""
    bound = 1 / math.sqrt(inputs)
    return ParamAttr(initializer=nn.initializer.Uniform(-bound, bound))


def _conv(channels: int, out_channels: int, kernel: int, stride: int, padding: int) -> nn.Conv2D:
    weight, bias = (_spread(channels * kernel * kernel) for _ in range(2))
    return nn.Conv2D(channels, out_channels, kernel, stride, padding, weight_attr=weight, bias_attr=bias)


def _linear(inputs: int, outputs: int) -> Linear:
    weight, bias = (_spread(256 * PLACES * PLACES) for _ in range(2))
    return Linear(inputs, outputs, weight, bias)


class ConvPool(nn.Layer):
    """A convolution, rectified and pooled."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self._conv = _conv(channels, out_channels, kernel, stride, padding)
        self._pool = nn.MaxPool2D(3, stride=2)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self._pool(F.relu(self._conv(x)))


class AlexNet(Backbone):
    """AlexNet; parameter names follow the published weights."""

    classifiers = ("_fc8.",)

    def __init__(self, part: parts.AlexNet) -> None:
        super().__init__()
        self.input_size = SIDE
        self._conv1 = ConvPool(3, 64, 11, 4, 2)
        self._conv2 = ConvPool(64, 192, 5, 1, 2)
        self._conv3 = _conv(192, 384, 3, 1, 1)
        self._conv4 = _conv(384, 256, 3, 1, 1)
        self._conv5 = ConvPool(256, 256, 3, 1, 1)
        self.levels = [Level("_conv1", 64, 8), Level("_conv2", 192, 16), Level("_conv5", 256, 32)]
        self._drop1, self._drop2 = DownscaleDropout(0.5), DownscaleDropout(0.5)
        self._fc6 = _linear(256 * PLACES * PLACES, HIDDEN)
        self._fc7 = _linear(HIDDEN, HIDDEN)
        self._fc8 = _linear(HIDDEN, part.class_num)
        self.feature_size = part.class_num

    def steps(self) -> list[Step]:
        layers = self._sub_layers
        steps: list[Step] = [
            ("_conv1", self._conv1),
            ("_conv2", self._conv2),
            ("_conv3", lambda x: F.relu(self._conv3(x))),
            ("_conv4", lambda x: F.relu(self._conv4(x))),
            ("_conv5", self._conv5),
            ("flatten", lambda x: self.flattened(x, PLACES)),
        ]
        hidden: list[Step] = [
            ("_fc6", lambda x: F.relu(self._fc6(self._drop1(x)))),
            ("_fc7", lambda x: F.relu(self._fc7(self._drop2(x)))),
            ("_fc8", lambda x: self._fc8(x)),
        ]
        return [step for step in [*steps, *hidden] if step[0] in (*layers, "flatten")]

    def sizes(self) -> dict[str, int]:
        return {"_conv5": 256, "flatten": 256 * PLACES * PLACES, "_fc6": HIDDEN, "_fc7": HIDDEN}
