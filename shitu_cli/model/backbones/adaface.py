"""The residual networks of AdaFace (Kim et al. 2022, arXiv:2204.00964): for aligned faces of 112 pixels.

Parameter names and blocks are those of the published weights (Deng et al. 2019, arXiv:1801.07698, "IR").
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, nn

from shitu_cli.config.parts import backbones as parts
from shitu_cli.model.backbones.base import Backbone, Level, Step
from shitu_cli.model.layers import Conv2D, Linear, sqrt

# Blocks per stage; the first of each stage halves the map.
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 101: (3, 13, 30, 3)}
WIDTHS = (64, 128, 256, 512)
FEATURE = 512
DROPPED = 0.4  # share of the last map that training drops


def _conv(channels: int, out: int, kernel: int, stride: int = 1) -> Conv2D:
    attr = ParamAttr(initializer=nn.initializer.KaimingNormal())
    return Conv2D(channels, out, kernel, stride, weight_attr=attr, bias_attr=False)


class PReLU(nn.PReLU):
    """Paddle's PReLU with a slope per channel, in operators that every engine of exported programs knows."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return F.relu(x) - F.relu(-x) * self._weight.reshape([1, -1, 1, 1])


class ResidualBlock(nn.Layer):
    """Norm, 3x3, norm, PReLU, 3x3 with the stride, norm; added to the input, which a 1x1 widens if it must."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Layer
        if channels == out:
            self.shortcut_layer = nn.MaxPool2D(1, stride)  # every second pixel
        else:
            self.shortcut_layer = nn.Sequential(_conv(channels, out, 1, stride), nn.BatchNorm2D(out))
        self.res_layer = nn.Sequential(
            nn.BatchNorm2D(channels),
            _conv(channels, out, 3),
            nn.BatchNorm2D(out),
            PReLU(out),
            _conv(out, out, 3, stride),
            nn.BatchNorm2D(out),
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class PlainNorm(nn.BatchNorm1D):
    """Batch norm without scale and shift; deployed as plain arithmetic, as the operator of programs needs both."""

    def __init__(self, size: int) -> None:
        super().__init__(size, weight_attr=False, bias_attr=False)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.training:
            return nn.BatchNorm1D.forward(self, x)
        return (x - self._mean) / sqrt(self._variance + self._epsilon)


class AdaFace(Backbone):
    """A network of one depth, whose feature of 512 values comes from a linear layer over the whole last map."""

    # Scale and shift of the last norm, 1 and 0, which files of Paddle 2 hold and Paddle 3 does not have.
    classifiers = ("output_layer.4.weight", "output_layer.4.bias")

    def __init__(self, part: parts.AdaFace) -> None:
        super().__init__()
        self.input_size = part.input_size[0]
        self.input_layer = nn.Sequential(_conv(3, 64, 3), nn.BatchNorm2D(64), PReLU(64))
        blocks, channels, reach = [], 64, 1
        self.levels = []
        for count, width in zip(DEPTHS[part.depth], WIDTHS, strict=True):
            for number in range(count):
                blocks.append(ResidualBlock(channels, width, 2 if number == 0 else 1))
                channels = width
            reach *= 2
            self.levels.append(Level(f"body.{len(blocks) - 1}", channels, reach))
        self.body = nn.Sequential(*blocks)
        side = self.input_size // reach
        self.output_layer = nn.Sequential(
            nn.BatchNorm2D(channels),
            nn.Dropout(DROPPED),
            nn.Flatten(),
            Linear(channels * side * side, FEATURE, ParamAttr(initializer=nn.initializer.KaimingNormal())),
            PlainNorm(FEATURE),
        )
        self.feature_size = FEATURE

    def steps(self) -> list[Step]:
        return [("input_layer", self._begin), ("body", self.body), ("output_layer", self.output_layer)]

    def sizes(self) -> dict[str, int]:
        return {"output_layer": FEATURE}

    def _begin(self, images: paddle.Tensor) -> paddle.Tensor:
        self.require_size(
            images, f"resize to {self.input_size} in the transforms; Arch.Backbone.input_size may be 112 or 224"
        )
        return self.input_layer(images)
