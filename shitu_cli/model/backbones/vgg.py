"""VGG without batch norm (Simonyan and Zisserman 2014, arXiv:1409.1556), with a sigmoid at the end for hashing."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from shitu_cli.config.parts import backbones as parts
from shitu_cli.model.backbones.base import Backbone, Level, Step
from shitu_cli.model.layers import Conv2D, DownscaleDropout, Linear, sigmoid

DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)
SIDE = 224  # of the images
PLACES = SIDE // 32  # side of the maps that the first linear layer takes
HIDDEN = 4096


class ConvBlock(nn.Layer):
    """Some 3x3 convolutions, then pooling to half the side."""

    def __init__(self, channels: int, out_channels: int, count: int) -> None:
        super().__init__()
        self.names = [f"conv{number + 1}" for number in range(count)]
        for name in self.names:
            setattr(self, name, Conv2D(channels, out_channels, 3, bias_attr=False))
            channels = out_channels
        self.max_pool = nn.MaxPool2D(2, stride=2)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        for name in self.names:
            x = F.relu(self._sub_layers[name](x))
        return self.max_pool(x)


class VGG(Backbone):
    """VGG of one depth; with `sigmoid`, the last layer gives values between 0 and 1, which round to bits."""

    classifiers = ("fc3.",)

    def __init__(self, part: parts.VGG) -> None:
        super().__init__()
        self.input_size = SIDE
        channels, self.levels = 3, []
        for number, (count, width) in enumerate(zip(DEPTHS[part.depth], WIDTHS, strict=True), 1):
            block = ConvBlock(channels, width, count)
            setattr(self, f"conv_block_{number}", block)
            channels = width
            self.levels.append(Level(f"conv_block_{number}", width, 2**number))
            if number <= part.stop_grad_layers:
                for parameter in block.parameters():
                    parameter.stop_gradient = True
        self.drop = DownscaleDropout(0.5)
        self.fc1 = Linear(channels * PLACES**2, HIDDEN)
        self.fc2 = Linear(HIDDEN, HIDDEN)
        self.fc3 = Linear(HIDDEN, part.class_num)
        self.sigmoid = part.sigmoid
        self.feature_size = part.class_num

    def steps(self) -> list[Step]:
        layers = self._sub_layers
        steps: list[Step] = [(level.layer, layers[level.layer]) for level in self.levels if level.layer in layers]
        steps.append(("flatten", lambda x: self.flattened(x, PLACES)))
        hidden = [("fc1", self._fc1), ("fc2", self._fc2), ("fc3", self._fc3)]
        return steps + [(name, step) for name, step in hidden if name in layers]

    def sizes(self) -> dict[str, int]:
        maps = {level.layer: level.channels for level in self.levels[-1:]}
        return {**maps, "flatten": WIDTHS[-1] * PLACES**2, "fc1": HIDDEN, "fc2": HIDDEN}

    def _fc1(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.drop(F.relu(self.fc1(x)))

    def _fc2(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.drop(F.relu(self.fc2(x)))

    def _fc3(self, x: paddle.Tensor) -> paddle.Tensor:
        y = self.fc3(x)
        return sigmoid(y) if self.sigmoid else y
