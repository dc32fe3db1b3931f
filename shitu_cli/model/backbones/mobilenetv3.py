"""MobileNetV3 (Howard et al. 2019, arXiv:1905.02244), large and small, by width."""

from __future__ import annotations

import paddle
from paddle import nn

from shitu_cli.config.parts import backbones as parts
from shitu_cli.model.backbones.base import Backbone, Level, Step
from shitu_cli.model.layers import Conv2D, ConvBNAct, DownscaleDropout, Linear, SqueezeExcite, make_divisible

# Kernel, expanded channels, channels out, squeeze-excite, activation, stride.
Row = tuple[int, int, int, bool, str, int]
LARGE: list[Row] = [
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hardswish", 2),
    (3, 200, 80, False, "hardswish", 1),
    (3, 184, 80, False, "hardswish", 1),
    (3, 184, 80, False, "hardswish", 1),
    (3, 480, 112, True, "hardswish", 1),
    (3, 672, 112, True, "hardswish", 1),
    (5, 672, 160, True, "hardswish", 2),
    (5, 960, 160, True, "hardswish", 1),
    (5, 960, 160, True, "hardswish", 1),
]
SMALL: list[Row] = [
    (3, 16, 16, True, "relu", 2),
    (3, 72, 24, False, "relu", 2),
    (3, 88, 24, False, "relu", 1),
    (5, 96, 40, True, "hardswish", 2),
    (5, 240, 40, True, "hardswish", 1),
    (5, 240, 40, True, "hardswish", 1),
    (5, 120, 48, True, "hardswish", 1),
    (5, 144, 48, True, "hardswish", 1),
    (5, 288, 96, True, "hardswish", 2),
    (5, 576, 96, True, "hardswish", 1),
    (5, 576, 96, True, "hardswish", 1),
]
TABLES = {"large": (LARGE, 960), "small": (SMALL, 576)}  # and channels before the pooling


class InvertedResidual(nn.Layer):
    """Expand, depthwise, squeeze-excite, project; with a shortcut if the shape stays."""

    def __init__(self, channels: int, middle: int, out: int, kernel: int, stride: int, use_se: bool, act: str) -> None:
        super().__init__()
        self.shortcut = stride == 1 and channels == out
        self.expand_conv = ConvBNAct(channels, middle, 1, act=act)
        self.bottleneck_conv = ConvBNAct(middle, middle, kernel, stride, groups=middle, act=act)
        self.mid_se = SqueezeExcite(middle, slope=0.2) if use_se else None
        self.linear_conv = ConvBNAct(middle, out, 1, act=None)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        y = self.bottleneck_conv(self.expand_conv(x))
        if self.mid_se is not None:
            y = self.mid_se(y)
        y = self.linear_conv(y)
        return x + y if self.shortcut else y


class MobileNetV3(Backbone):
    """MobileNetV3 of one table and width."""

    classifiers = ("fc.",)

    def __init__(self, part: parts.MobileNetV3) -> None:
        super().__init__()
        scale, class_expand = part.scale, part.class_expand
        rows, class_squeeze = TABLES[part.size]
        channels = make_divisible(16 * scale)
        self.conv = ConvBNAct(3, channels, 3, 2)
        blocks, reach = [], 2
        last_of: dict[int, Level] = {}
        for index, (kernel, middle, out, use_se, act, stride) in enumerate(rows):
            width = make_divisible(out * scale)
            expanded = make_divisible(middle * scale)
            blocks.append(InvertedResidual(channels, expanded, width, kernel, stride, use_se, act))
            channels, reach = width, reach * stride
            last_of[reach] = Level(f"blocks.{index}", channels, reach)
        self.levels = list(last_of.values())
        self.blocks = nn.Sequential(*blocks)
        squeezed = make_divisible(class_squeeze * scale)
        self.last_second_conv = ConvBNAct(channels, squeezed, 1)
        self.avg_pool = nn.AdaptiveAvgPool2D(1)
        self.last_conv = Conv2D(squeezed, class_expand, 1, bias_attr=False)
        self.hardswish = nn.Hardswish()
        self.dropout = DownscaleDropout(part.dropout_prob)
        self.flatten = nn.Flatten()
        self.fc = Linear(class_expand, part.class_num)
        self.map_channels, self.flat_channels, self.feature_size = squeezed, class_expand, part.class_num

    def steps(self) -> list[Step]:
        last = ("last_second_conv", "avg_pool", "last_conv", "hardswish", "dropout", "flatten", "fc")
        return self.steps_of("conv", "blocks", *last)

    def sizes(self) -> dict[str, int]:
        flat = dict.fromkeys(["last_conv", "hardswish", "dropout", "flatten"], self.flat_channels)
        return {"last_second_conv": self.map_channels, "avg_pool": self.map_channels, **flat}
