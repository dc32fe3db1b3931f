"""MobileNetV4, convolutional, small and medium (Qin et al. 2024, arXiv:2404.10518); names as in timm."""

from __future__ import annotations

from typing import NamedTuple

import paddle
from paddle import nn

from shitu_cli.config.parts import backbones as parts
from shitu_cli.model.backbones.base import Backbone, Level, Step
from shitu_cli.model.backbones.blocks import BatchNormAct, chain
from shitu_cli.model.layers import Conv2D, Linear, make_divisible

FEATURES = 1280


class Plain(NamedTuple):
    """A convolution with batch norm and ReLU."""

    kernel: int
    stride: int
    out: int


class Fused(NamedTuple):
    """A dense convolution that expands, and a pointwise one that projects."""

    kernel: int
    stride: int
    expansion: int
    out: int


class Universal(NamedTuple):
    """A universal inverted bottleneck; a kernel of 0 leaves that depthwise convolution out."""

    start: int
    middle: int
    stride: int
    expansion: int
    out: int


Block = Plain | Fused | Universal
SMALL: tuple[tuple[Block, ...], ...] = (
    (Plain(3, 2, 32), Plain(1, 1, 32)),
    (Plain(3, 2, 96), Plain(1, 1, 64)),
    (Universal(5, 5, 2, 3, 96), *[Universal(0, 3, 1, 2, 96)] * 4, Universal(3, 0, 1, 4, 96)),
    (
        Universal(3, 3, 2, 6, 128),
        Universal(5, 5, 1, 4, 128),
        Universal(0, 5, 1, 4, 128),
        Universal(0, 5, 1, 3, 128),
        *[Universal(0, 3, 1, 4, 128)] * 2,
    ),
    (Plain(1, 1, 960),),
)
MEDIUM: tuple[tuple[Block, ...], ...] = (
    (Fused(3, 2, 4, 48),),
    (Universal(3, 5, 2, 4, 80), Universal(3, 3, 1, 2, 80)),
    (
        Universal(3, 5, 2, 6, 160),
        *[Universal(3, 3, 1, 4, 160)] * 2,
        Universal(3, 5, 1, 4, 160),
        Universal(3, 3, 1, 4, 160),
        Universal(3, 0, 1, 4, 160),
        Universal(0, 0, 1, 2, 160),
        Universal(3, 0, 1, 4, 160),
    ),
    (
        Universal(5, 5, 2, 6, 256),
        Universal(5, 5, 1, 4, 256),
        *[Universal(3, 5, 1, 4, 256)] * 2,
        Universal(0, 0, 1, 4, 256),
        Universal(3, 0, 1, 4, 256),
        Universal(3, 5, 1, 2, 256),
        Universal(5, 5, 1, 4, 256),
        *[Universal(0, 0, 1, 4, 256)] * 2,
        Universal(5, 0, 1, 2, 256),
    ),
    (Plain(1, 1, 960),),
)
TABLES = {"small": SMALL, "medium": MEDIUM}


class ConvNorm(nn.Layer):
    """Convolution and batch norm, called `conv` and `bn`."""

    def __init__(
        self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1, act: str | None = "relu"
    ) -> None:
        super().__init__()
        self.conv = Conv2D(channels, out, kernel, stride, groups, bias_attr=False)
        self.bn = BatchNormAct(out, act)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return chain(x, [(self.conv, self.bn)])


class PlainConv(nn.Layer):
    """Convolution and batch norm, called `conv` and `bn1`."""

    def __init__(self, channels: int, block: Plain) -> None:
        super().__init__()
        self.conv = Conv2D(channels, block.out, block.kernel, block.stride, bias_attr=False)
        self.bn1 = BatchNormAct(block.out, "relu")

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return chain(x, [(self.conv, self.bn1)])


class FusedBottleneck(nn.Layer):
    """Expand with a dense convolution, project with a pointwise one."""

    def __init__(self, channels: int, block: Fused) -> None:
        super().__init__()
        middle = make_divisible(channels * block.expansion)
        self.shortcut = block.stride == 1 and channels == block.out
        self.conv_exp = Conv2D(channels, middle, block.kernel, block.stride, bias_attr=False)
        self.bn1 = BatchNormAct(middle, "relu")
        self.conv_pwl = Conv2D(middle, block.out, 1, bias_attr=False)
        self.bn2 = BatchNormAct(block.out, None)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return chain(x, [(self.conv_exp, self.bn1), (self.conv_pwl, self.bn2)], self.shortcut)


class UniversalBottleneck(nn.Layer):
    """Depthwise (if any), expand, depthwise (if any), project; the stride is with the last depthwise convolution."""

    def __init__(self, channels: int, block: Universal) -> None:
        super().__init__()
        middle = make_divisible(channels * block.expansion)
        self.shortcut = block.stride == 1 and channels == block.out
        if block.start:
            stride = 1 if block.middle else block.stride
            self.dw_start = ConvNorm(channels, channels, block.start, stride, channels, act=None)
        self.pw_exp = ConvNorm(channels, middle, 1)
        if block.middle:
            self.dw_mid = ConvNorm(middle, middle, block.middle, block.stride, middle)
        self.pw_proj = ConvNorm(middle, block.out, 1, act=None)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return chain(x, [(layer.conv, layer.bn) for layer in self._sub_layers.values()], self.shortcut)


def _layer(channels: int, block: Block) -> nn.Layer:
    if isinstance(block, Plain):
        return PlainConv(channels, block)
    return FusedBottleneck(channels, block) if isinstance(block, Fused) else UniversalBottleneck(channels, block)


class MobileNetV4(Backbone):
    """MobileNetV4 of one table; a classifier only if `class_num` is above 0."""

    classifiers = ("classifier.",)

    def __init__(self, part: parts.MobileNetV4) -> None:
        super().__init__()
        channels, reach = 32, 2
        self.conv_stem = Conv2D(3, channels, 3, 2, bias_attr=False)
        self.bn1 = BatchNormAct(channels, "relu")
        layers, last_of = [], {}
        for number, blocks in enumerate(TABLES[part.size]):
            stage = []
            for block in blocks:
                stage.append(_layer(channels, block))
                channels, reach = block.out, reach * block.stride
            layers.append(nn.Sequential(*stage))
            last_of[reach] = Level(f"blocks.{number}", channels, reach)
        self.blocks = nn.Sequential(*layers)
        self.levels = list(last_of.values())
        self.avg_pool = nn.AdaptiveAvgPool2D(1)
        self.conv_head = Conv2D(channels, FEATURES, 1, bias_attr=False)
        self.norm_head = BatchNormAct(FEATURES, "relu")
        self.flatten = nn.Flatten()
        self.map_channels, self.feature_size = channels, FEATURES
        if part.class_num:
            self.classifier = Linear(FEATURES, part.class_num)
            self.feature_size = part.class_num

    def steps(self) -> list[Step]:
        last = ("avg_pool", "conv_head", "norm_head", "flatten", "classifier")
        return self.steps_of("conv_stem", "bn1", "blocks", *last)

    def sizes(self) -> dict[str, int]:
        pooled = dict.fromkeys(["conv_head", "norm_head", "flatten"], FEATURES)
        return {"blocks": self.map_channels, "avg_pool": self.map_channels, **pooled}
