"""EfficientNet-Lite 0 to 4 (Tan and Le 2019, arXiv:1905.11946; Lite: without squeeze-excite, with ReLU6).

Layers and parameters are named as in timm's `tf_efficientnet_lite*`, whose weights come from TensorFlow: padding
"SAME", batch norm with an epsilon of 1e-3.
"""

from __future__ import annotations

import math
from functools import partial

import paddle
from paddle import nn

from shitu_cli.config.parts import backbones as parts
from shitu_cli.model.backbones.base import Backbone, Level, Step
from shitu_cli.model.backbones.blocks import BatchNormAct, SameConv2D, chain
from shitu_cli.model.layers import Linear, make_divisible

# Kernel, stride, expansion, channels, blocks of each stage of Lite0.
STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4),
          (3, 1, 6, 320, 1))  # fmt: skip
STEM, FEATURES = 32, 1280

_norm = partial(BatchNormAct, epsilon=1e-3)


class DepthwiseSeparable(nn.Layer):
    """Depthwise, then pointwise convolution; with a shortcut if the shape stays."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.shortcut = stride == 1 and channels == out
        self.conv_dw = SameConv2D(channels, channels, kernel, stride, groups=channels)
        self.bn1 = _norm(channels, "relu6")
        self.conv_pw = SameConv2D(channels, out, 1)
        self.bn2 = _norm(out, None)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return chain(x, [(self.conv_dw, self.bn1), (self.conv_pw, self.bn2)], self.shortcut)


class InvertedResidual(nn.Layer):
    """Expand, depthwise, project; with a shortcut if the shape stays."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = make_divisible(channels * expansion)
        self.shortcut = stride == 1 and channels == out
        self.conv_pw = SameConv2D(channels, middle, 1)
        self.bn1 = _norm(middle, "relu6")
        self.conv_dw = SameConv2D(middle, middle, kernel, stride, groups=middle)
        self.bn2 = _norm(middle, "relu6")
        self.conv_pwl = SameConv2D(middle, out, 1)
        self.bn3 = _norm(out, None)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        links = [(self.conv_pw, self.bn1), (self.conv_dw, self.bn2), (self.conv_pwl, self.bn3)]
        return chain(x, links, self.shortcut)


class EfficientNetLite(Backbone):
    """EfficientNet-Lite of one width and depth; a classifier only if `class_num` is above 0."""

    classifiers = ("classifier.",)

    def __init__(self, part: parts.EfficientNetLite) -> None:
        super().__init__()
        self.conv_stem = SameConv2D(3, STEM, 3, 2)
        self.bn1 = _norm(STEM, "relu6")
        channels, reach = STEM, 2
        stages, last_of = [], {}
        for number, (kernel, stride, expansion, out, count) in enumerate(STAGES):
            out = make_divisible(out * part.width)
            blocks: list[nn.Layer] = []
            repeats = (
                count if number in (0, len(STAGES) - 1) else math.ceil(count * part.depth)
            )  # the first and last stage are not scaled
            for index in range(repeats):
                step = stride if index == 0 else 1
                if expansion == 1:
                    blocks.append(DepthwiseSeparable(channels, out, kernel, step))
                else:
                    blocks.append(InvertedResidual(channels, out, kernel, step, expansion))
                channels = out
            stages.append(nn.Sequential(*blocks))
            reach *= stride
            last_of[reach] = Level(f"blocks.{number}", channels, reach)
        self.blocks = nn.Sequential(*stages)
        self.levels = list(last_of.values())
        self.conv_head = SameConv2D(channels, FEATURES, 1)
        self.bn2 = _norm(FEATURES, "relu6")
        self.avg_pool = nn.AdaptiveAvgPool2D(1)
        self.flatten = nn.Flatten()
        self.map_channels, self.feature_size = channels, FEATURES
        if part.class_num:
            self.classifier = Linear(FEATURES, part.class_num)
            self.feature_size = part.class_num

    def steps(self) -> list[Step]:
        return self.steps_of("conv_stem", "bn1", "blocks", "conv_head", "bn2", "avg_pool", "flatten", "classifier")

    def sizes(self) -> dict[str, int]:
        return {"blocks": self.map_channels, **dict.fromkeys(["conv_head", "bn2", "avg_pool", "flatten"], FEATURES)}
