"""Necks: from the output of the backbone to the feature that is compared."""

from __future__ import annotations

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, nn

from shitu_cli.config.parts import necks as parts
from shitu_cli.errors import ConfigError
from shitu_cli.model.backbones.base import Backbone, Level
from shitu_cli.model.layers import Conv2D, ConvBNAct, Linear, parameter_attr, tanh


class FC(nn.Layer):
    """A linear layer, `embedding_size` in, `class_num` out (the published name for the size of the feature)."""

    def __init__(self, part: parts.FC) -> None:
        super().__init__()
        self.in_size, self.feature_size = part.embedding_size, part.class_num
        weight = parameter_attr(part.weight_attr, nn.initializer.XavierNormal())
        self.fc = Linear(part.embedding_size, part.class_num, weight, parameter_attr(part.bias_attr))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.fc(x)


class BNNeck(nn.Layer):
    """Batch norm on the feature (Luo et al. 2019, arXiv:1903.07071)."""

    size_key = "num_features"  # the argument that says how many values the layer takes

    def __init__(self, part: parts.BNNeck) -> None:
        super().__init__()
        self.in_size = self.feature_size = part.num_features
        self.feat_bn = nn.BatchNorm1D(
            part.num_features,
            weight_attr=parameter_attr(part.weight_attr),
            bias_attr=parameter_attr(part.bias_attr),
            use_global_stats=part.use_global_stats,
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.feat_bn(x)


class VehicleNeck(nn.Layer):
    """A 1x1 convolution on the pooled map, flattened."""

    size_key = "in_channels"
    takes_map = True  # other necks take a row of values for each image

    def __init__(self, part: parts.VehicleNeck) -> None:
        super().__init__()
        self.in_size, self.feature_size = part.in_channels, part.out_channels
        self.conv = Conv2D(part.in_channels, part.out_channels, 1)
        self.flatten = nn.Flatten()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.flatten(self.conv(x))


class FCBN(nn.Layer):
    """A linear layer without bias and batch norm on its output: steadier features for small data."""

    def __init__(self, part: parts.FCBN) -> None:
        super().__init__()
        self.in_size, self.feature_size = part.embedding_size, part.class_num
        weight = ParamAttr(initializer=nn.initializer.XavierNormal())
        self.fc = Linear(part.embedding_size, part.class_num, weight_attr=weight, bias_attr=False)
        self.feat_bn = nn.BatchNorm1D(part.class_num)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.feat_bn(self.fc(x))


class FPN(nn.Layer):
    """The backbone's feature and a feature pyramid's (Lin et al. 2017, arXiv:1612.03144), joined by a linear layer.

    The last `levels` stages are projected to `channels`; each adds the next coarser one, enlarged, and is smoothed and
    pooled: so small details count that the last stages have lost. `embedding_size` values come from the backbone,
    `class_num` go out (names as in FC).
    """

    def __init__(self, part: parts.FPN) -> None:
        super().__init__()
        self.in_size, self.feature_size = part.embedding_size, part.class_num
        self.level_count, self.channels = part.levels, part.channels
        self.levels: list[Level] = []

    def connect(self, backbone: Backbone) -> None:
        """Create the layers for the stages of `backbone`; ConfigError if it has too few."""
        if self.level_count > len(backbone.levels):
            raise ConfigError(
                f"Arch.Neck.levels: got {self.level_count}, the backbone has {len(backbone.levels)} stages"
            )
        self.levels = backbone.levels[-self.level_count :]
        self.lateral = nn.LayerList([Conv2D(level.channels, self.channels, 1) for level in self.levels])
        self.smooth = nn.LayerList(
            [
                nn.Sequential(
                    ConvBNAct(self.channels, self.channels, 3, groups=self.channels, act=None),
                    ConvBNAct(self.channels, self.channels, 1),
                )
                for _ in self.levels
            ]
        )
        pooled = self.channels * len(self.levels)
        weight = ParamAttr(initializer=nn.initializer.XavierNormal())
        self.fc = Linear(self.in_size + pooled, self.feature_size, weight_attr=weight)

    def forward(self, x: paddle.Tensor, maps: Sequence[paddle.Tensor]) -> paddle.Tensor:
        """Return the feature [N, class_num] of x [N, embedding_size] and the map of each level, fine to coarse."""
        above: paddle.Tensor | None = None
        pooled = []
        for place in reversed(range(len(self.levels))):
            merged = self.lateral[place](maps[place])
            if above is not None:
                merged = merged + _enlarge(above, self.levels[place + 1].stride // self.levels[place].stride, merged)
            above = merged
            pooled.append(F.adaptive_avg_pool2d(self.smooth[place](merged), 1).flatten(1))
        return self.fc(paddle.concat([x, *reversed(pooled)], axis=1))


def _enlarge(x: paddle.Tensor, factor: int, like: paddle.Tensor) -> paddle.Tensor:
    """Repeat each pixel `factor` times each way, cut to height and width of `like` (odd sides were rounded up before).

    Uses operators that every exported format and engine supports, unlike F.interpolate (Paddle 3.3).
    """
    if factor == 1:
        return x
    channels = x.shape[1]
    ones = paddle.ones([channels, 1, factor, factor], dtype=x.dtype)
    x = F.conv2d_transpose(x, ones, stride=factor, groups=channels)
    height, width = like.shape[2:] if paddle.in_dynamic_mode() else paddle.shape(like)[2:]
    return x[:, :, :height, :width]


class Identity(nn.Layer):
    """Returns the feature of the backbone unchanged."""

    def __init__(self, part: parts.Identity) -> None:
        super().__init__()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x


class Tanh(nn.Layer):
    """Draws the values of the feature towards -1 and 1, whose signs are compared."""

    def __init__(self, part: parts.Tanh) -> None:
        super().__init__()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return tanh(x)


def check_size(key: str, size: int, got: int) -> None:
    """Raise ConfigError if the layer at config key `key` takes `size` values but receives `got`."""
    if size != got:
        raise ConfigError(f"{key}: {wrong_size(size, got)}", hint=f"set {key}: {got}")


def wrong_size(size: int | None, got: int) -> str:
    """Return what is wrong with a layer that takes `size` values but receives `got`."""
    return f"got {size}, but the layer before it returns {got} values"
