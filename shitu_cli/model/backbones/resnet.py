"""ResNet (He et al. 2015, arXiv:1512.03385) and its D variant (He et al. 2018, arXiv:1812.01187)."""

from __future__ import annotations

from functools import partial

import paddle
import paddle.nn.functional as F
from paddle import nn

from shitu_cli.config.parts import backbones as parts
from shitu_cli.model.backbones.base import Backbone, Level, Step
from shitu_cli.model.layers import ConvBNAct, Linear

# Blocks per stage.
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
WIDTHS = (64, 128, 256, 512)


class PooledShortcut(ConvBNAct):
    """The D variant's shortcut of a block that strides: average pooling, then a 1x1 convolution."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return super().forward(F.avg_pool2d(x, 2, stride=2, ceil_mode=True))


class ResidualBlock(nn.Layer):
    """Basic (two 3x3) or bottleneck (1x1, 3x3, 1x1) block."""

    def __init__(
        self,
        channels: int,
        width: int,
        stride: int,
        bottleneck: bool,
        pooled_shortcut: bool,
        lr_mult: float,
        norm_decay: bool,
        shortcut_conv: bool,
    ) -> None:
        super().__init__()
        out = width * 4 if bottleneck else width
        conv = partial(ConvBNAct, lr_mult=lr_mult, norm_decay=norm_decay)
        if bottleneck:
            self.conv0 = conv(channels, width, 1, act="relu")
            self.conv1 = conv(width, width, 3, stride, act="relu")
            self.conv2 = conv(width, out, 1, act=None)
        else:
            self.conv0 = conv(channels, width, 3, stride, act="relu")
            self.conv1 = conv(width, width, 3, act=None)
        self.bottleneck, self.out_channels = bottleneck, out
        self.short: nn.Layer | None = None
        if shortcut_conv or channels != out or stride != 1:
            pooled = pooled_shortcut and stride == 2
            maker = PooledShortcut if pooled else ConvBNAct
            shortcut = partial(maker, lr_mult=lr_mult, norm_decay=norm_decay)
            self.short = shortcut(channels, out, 1, 1 if pooled else stride, act=None)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        y = self.conv1(self.conv0(x))
        if self.bottleneck:
            y = self.conv2(y)
        return F.relu(y + (x if self.short is None else self.short(x)))


class GlobalMaxPool(nn.Layer):
    """The largest value of each map; unlike AdaptiveMaxPool2D, in an operator that every exported format has."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return paddle.max(x, axis=[2, 3], keepdim=True)


class ResNet(Backbone):
    """ResNet of one depth; `class_num` 0 leaves out the classifier."""

    classifiers = ("fc.",)

    def __init__(self, part: parts.ResNet) -> None:
        super().__init__()
        depth, vd, lr_mult_list = part.depth, part.vd, part.lr_mult_list
        decay = part.norm_decay
        stem = partial(ConvBNAct, act=part.stem_act, lr_mult=lr_mult_list[0], norm_decay=decay)
        if vd:
            self.stem = nn.Sequential(stem(3, 32, 3, 2), stem(32, 32, 3), stem(32, 64, 3))
        else:
            self.stem = nn.Sequential(stem(3, 64, 7, 2))
        self.max_pool = nn.MaxPool2D(3, stride=2, padding=1)
        blocks, channels, reach = [], 64, 4
        self.levels = []
        for stage, (count, width) in enumerate(zip(DEPTHS[depth], WIDTHS, strict=True)):
            for index in range(count):
                stride = (1, 2, 2, part.last_stride)[stage] if index == 0 else 1
                first = part.first_shortcut and index == 0
                lr_mult = lr_mult_list[stage + 1]
                blocks.append(ResidualBlock(channels, width, stride, depth >= 50, vd, lr_mult, decay, first))
                channels, reach = blocks[-1].out_channels, reach * stride
            self.levels.append(Level(f"blocks.{len(blocks) - 1}", channels, reach))
        self.blocks = nn.Sequential(*blocks)
        self.avg_pool = GlobalMaxPool() if part.max_pooled else nn.AdaptiveAvgPool2D(1)
        self.flatten = nn.Flatten()
        self.channels = self.feature_size = channels
        if part.class_num:
            bound = channels**-0.5
            uniform = paddle.ParamAttr(initializer=nn.initializer.Uniform(-bound, bound))
            self.fc = Linear(channels, part.class_num, uniform)
            self.feature_size = part.class_num

    def steps(self) -> list[Step]:
        return self.steps_of("stem", "max_pool", "blocks", "avg_pool", "flatten", "fc")

    def sizes(self) -> dict[str, int]:
        return dict.fromkeys(["blocks", "avg_pool", "flatten"], self.channels)
