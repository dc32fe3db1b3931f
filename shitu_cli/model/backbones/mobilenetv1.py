"""MobileNet (Howard et al. 2017, arXiv:1704.04861) by width."""

from __future__ import annotations

from functools import partial

import paddle
from paddle import nn

from shitu_cli.config.parts import backbones as parts
from shitu_cli.model.backbones.base import Backbone, Level, Step
from shitu_cli.model.layers import ConvBNAct, Linear

# Channels out and stride of each block.
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


class DepthwiseSeparable(nn.Layer):
    """A 3x3 convolution on each channel, then one over the channels."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        conv = partial(ConvBNAct, act="relu", init=nn.initializer.KaimingNormal(), norm_decay=True)
        self.depthwise_conv = conv(channels, channels, 3, stride, groups=channels)
        self.pointwise_conv = conv(channels, out_channels, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.pointwise_conv(self.depthwise_conv(x))


class MobileNetV1(Backbone):
    """MobileNet of one width."""

    classifiers = ("fc.",)

    def __init__(self, part: parts.MobileNetV1) -> None:
        super().__init__()
        channels, reach = int(32 * part.scale), 2
        init = nn.initializer.KaimingNormal()
        self.conv = ConvBNAct(3, channels, 3, 2, act="relu", init=init, norm_decay=True)
        blocks = []
        last_of: dict[int, Level] = {}
        for number, (out, stride) in enumerate(BLOCKS):
            blocks.append(DepthwiseSeparable(channels, int(out * part.scale), stride))
            channels, reach = int(out * part.scale), reach * stride
            last_of[reach] = Level(f"blocks.{number}", channels, reach)
        self.levels = list(last_of.values())
        self.blocks = nn.Sequential(*blocks)
        self.avg_pool = nn.AdaptiveAvgPool2D(1)
        self.flatten = nn.Flatten()
        self.fc = Linear(channels, part.class_num, paddle.ParamAttr(initializer=nn.initializer.KaimingNormal()))
        self.channels, self.feature_size = channels, part.class_num

    def steps(self) -> list[Step]:
        return self.steps_of("conv", "blocks", "avg_pool", "flatten", "fc")

    def sizes(self) -> dict[str, int]:
        return dict.fromkeys(["blocks", "avg_pool", "flatten"], self.channels)
